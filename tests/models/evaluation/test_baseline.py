import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from models.evaluation import baseline
from models.evaluation.baseline import fit_logistic_regression, one_hot
from models.evaluation.metrics import log_loss
from models.features.field_encoder import Column
from models.features.packed_rows import PackedRows
from models.schema.feature_schema import Pooling


def make_rows(num_impressions: int, seed: int = 0, pooling: Pooling = "sqrtn") -> PackedRows:
    """Three fields over eleven rows; the last is a sequence over the second's rows, so rows recur in an impression."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 5, num_impressions)
    return PackedRows.of(
        [
            Column(rng.integers(0, 5, num_impressions)),
            Column(rng.integers(5, 11, num_impressions)),
            Column(rng.integers(5, 11, int(lengths.sum())), lengths, pooling),
        ]
    )


def dense(rows: PackedRows, num_rows: int) -> np.ndarray:
    batch, F = rows.unpack(), rows.num_fields
    x = np.zeros((len(batch), num_rows))
    for b in range(len(batch)):
        for i in range(batch.offsets[b * F], batch.offsets[(b + 1) * F]):
            x[b, batch.ids[i]] += batch.weights[i]
    return x


@pytest.mark.parametrize("pooling", ["mean", "sqrtn"])
def test_the_matrix_sums_rows_that_recur_in_an_impression(pooling: Pooling) -> None:
    rows = make_rows(200, pooling=pooling)
    matrix = one_hot(rows, 12)
    assert matrix.has_canonical_format
    assert np.allclose(matrix.toarray(), dense(rows, 12))


def test_the_fit_equals_that_of_a_dense_matrix() -> None:
    rows = make_rows(2_000)
    labels = np.random.default_rng(1).integers(0, 2, len(rows))
    oracle = LogisticRegression(C=0.3, tol=1e-10, max_iter=1_000).fit(dense(rows, 11), labels)
    fitted = fit_logistic_regression(rows, labels, 11)
    best = oracle.predict_proba(dense(rows, 11))[:, 1]
    assert np.allclose(fitted.probabilities(rows), best, atol=2e-3)

    def objective(p: np.ndarray, weights: np.ndarray) -> float:
        return float(0.3 * len(labels) * log_loss(labels, p) + (weights**2).sum() / 2)

    assert objective(fitted.probabilities(rows), fitted.weights) == pytest.approx(
        objective(best, oracle.coef_[0]), rel=1e-6
    )


def test_rows_that_training_never_saw_have_zero_weight() -> None:
    rows = make_rows(500)
    fitted = fit_logistic_regression(rows, np.arange(len(rows)) % 2, 20)
    assert fitted.weights.shape == (20,)
    assert not fitted.weights[11:].any()


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_only_gives_a_smoothed_constant(label: int) -> None:
    rows = make_rows(8)
    p = fit_logistic_regression(rows, np.full(8, label), 11).probabilities(rows)
    assert np.allclose(p, 0.9 if label else 0.1)


def test_more_rows_than_the_limit_are_drawn_by_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baseline, "MAX_ROWS", 300)
    rows = make_rows(900)
    labels = np.random.default_rng(1).integers(0, 2, len(rows))
    first, again, other = (fit_logistic_regression(rows, labels, 11, seed=s).weights for s in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_it_is_calibrated_and_levelled_as_the_model_is() -> None:
    rng = np.random.default_rng(5)
    rows, held_out = make_rows(20_000), make_rows(20_000, seed=1)
    weights = rng.normal(0, 1, 11)

    def draw(at: PackedRows, level: float) -> np.ndarray:
        odds = np.exp(one_hot(at, 11) @ weights + level)
        labels: np.ndarray = (rng.random(len(at)) < odds / (1 + odds)).astype(np.float32)
        return labels

    labels, later = draw(rows, -2.0), draw(held_out, -1.0)
    fitted = fit_logistic_regression(rows, labels, 11)
    assert fitted.probabilities(held_out).sum() < 0.7 * later.sum()
    measured = fitted.calibrated(held_out, later)
    assert measured.probabilities(held_out).sum() == pytest.approx(later.sum(), rel=0.02)
    assert log_loss(later, measured.probabilities(held_out)) < log_loss(later, fitted.probabilities(held_out))
    again = fit_logistic_regression(held_out, later, 11).levelled(measured, held_out)
    assert again.calibration == measured.calibration
    assert again.probabilities(held_out).sum() == pytest.approx(measured.probabilities(held_out).sum(), rel=1e-4)
