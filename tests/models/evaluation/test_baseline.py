import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from models.evaluation import baseline
from models.evaluation.baseline import fit_logistic_regression, one_hot
from models.evaluation.metrics import log_loss
from models.features.encoder import EncodedBatch, assemble
from models.features.field_encoder import Column
from models.features.packed_rows import PackedRows


def make_batch(num_impressions: int, seed: int = 0) -> EncodedBatch:
    """Three fields over eleven rows; the last is a sequence over the second's rows, so rows recur in an impression."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 5, num_impressions)
    return assemble(
        [
            Column(rng.integers(0, 5, num_impressions)),
            Column(rng.integers(5, 11, num_impressions)),
            Column(rng.integers(5, 11, int(lengths.sum())), lengths),
        ]
    )


def dense(batch: EncodedBatch, num_rows: int) -> np.ndarray:
    F = batch.num_fields
    x = np.zeros((len(batch), num_rows))
    for b in range(len(batch)):
        for i in range(batch.offsets[b * F], batch.offsets[(b + 1) * F]):
            x[b, batch.ids[i]] += batch.weights[i]
    return x


def test_the_matrix_sums_rows_that_recur_in_an_impression() -> None:
    batch = make_batch(200)
    matrix = one_hot(PackedRows.of(batch), 12)
    assert matrix.has_canonical_format
    assert np.allclose(matrix.toarray(), dense(batch, 12))


def test_the_fit_equals_that_of_a_dense_matrix() -> None:
    batch = make_batch(2_000)
    labels = np.random.default_rng(1).integers(0, 2, len(batch))
    oracle = LogisticRegression(C=0.3, tol=1e-10, max_iter=1_000).fit(dense(batch, 11), labels)
    fitted = fit_logistic_regression(PackedRows.of(batch), labels, 11)
    best = oracle.predict_proba(dense(batch, 11))[:, 1]
    assert np.allclose(fitted.probabilities(PackedRows.of(batch)), best, atol=2e-3)

    def objective(p: np.ndarray, weights: np.ndarray) -> float:
        return float(0.3 * len(labels) * log_loss(labels, p) + (weights**2).sum() / 2)

    assert objective(fitted.probabilities(PackedRows.of(batch)), fitted.weights) == pytest.approx(
        objective(best, oracle.coef_[0]), rel=1e-6
    )


def test_rows_that_training_never_saw_have_zero_weight() -> None:
    batch = make_batch(500)
    fitted = fit_logistic_regression(PackedRows.of(batch), np.arange(len(batch)) % 2, 20)
    assert fitted.weights.shape == (20,)
    assert not fitted.weights[11:].any()


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_only_gives_a_smoothed_constant(label: int) -> None:
    batch = make_batch(8)
    p = fit_logistic_regression(PackedRows.of(batch), np.full(8, label), 11).probabilities(PackedRows.of(batch))
    assert np.allclose(p, 0.9 if label else 0.1)


def test_more_rows_than_the_limit_are_drawn_by_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baseline, "MAX_ROWS", 300)
    batch = make_batch(900)
    labels = np.random.default_rng(1).integers(0, 2, len(batch))
    first, again, other = (fit_logistic_regression(PackedRows.of(batch), labels, 11, seed=s).weights for s in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
