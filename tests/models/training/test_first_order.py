from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression

from models.data.preparation import Prepared, prepare
from models.evaluation.baseline import one_hot
from models.evaluation.metrics import log_loss
from models.features.field_encoder import Column
from models.features.packed_rows import PackedRows
from models.network.calibration import sigmoid
from models.schema.feature_schema import FeatureSchema, Split, load_schema
from models.simulator.market import Traffic
from models.simulator.simulation import write_log
from models.training import first_order
from models.training.first_order import FirstOrder, fit_first_order, refit_first_order

KUAIRAND = Path(__file__).parents[4] / "shared" / "data" / "kuairand" / "impressions.parquet"
SCHEMA = Path(__file__).parents[3] / "examples" / "kuairand.toml"
SEED = 3


def prepared_log(data: list[str], schema: FeatureSchema, folder: Path) -> Prepared:
    return prepare(data, schema, SEED, 1_000_000, folder / "shards", lambda _: None)


def simulated(folder: Path) -> Prepared:
    write_log(Traffic(rows=20_000, days=4, seed=SEED, users=400, ads=60, base_rate=0.2), folder / "log")
    return prepared_log([str(folder / "log" / "impressions-*")], load_schema(folder / "log" / "schema.toml"), folder)


def beginning_of_kuairand(folder: Path) -> Prepared:
    if not KUAIRAND.exists():
        pytest.skip("the log is not here")
    pl.read_parquet(KUAIRAND, n_rows=8_000).write_parquet(folder / "log.parquet")
    split = Split(by_order=True, validation_fraction=0.25, test_fraction=0.0)
    schema = load_schema(SCHEMA).model_copy(update={"split": split})
    return prepared_log([str(folder / "log.parquet")], schema, folder)


@pytest.mark.parametrize("log", [simulated, beginning_of_kuairand])
def test_the_first_order_is_no_worse_than_scikit_learns_regression(
    log: Callable[[Path], Prepared], tmp_path: Path
) -> None:
    prepared = log(tmp_path)
    train, held_out = prepared.train[0].load(), prepared.held_out["validation"].part.load()
    starts, R = prepared.encoder.block_starts, prepared.encoder.num_rows

    def loss(fitted: FirstOrder) -> float:
        return log_loss(held_out.labels, sigmoid(fitted.logits(held_out.rows)))

    theirs = LogisticRegression(C=0.1, tol=1e-6, max_iter=1_000).fit(one_hot(train.rows, R), train.labels)
    expected = log_loss(held_out.labels, theirs.predict_proba(one_hot(held_out.rows, R))[:, 1])
    fitted = FirstOrder(np.zeros(R, np.float32), 0.0, np.full(len(starts), 0.1))
    for _ in range(3):  # three steps of Newton's method each
        fitted = refit_first_order(train.rows, train.labels, starts, fitted, SEED)
    assert loss(fitted) == pytest.approx(expected, abs=5e-4)
    assert loss(fit_first_order(train.rows, train.labels, starts, R, 0.1, SEED)) < expected + 5e-4


def make_rows(n: int) -> tuple[PackedRows, np.ndarray]:
    """Return impressions of a field with effects, one without, and a bag whose effects are those of its tokens."""
    rng = np.random.default_rng(SEED)
    effects = rng.normal(size=60)
    a, b = rng.integers(0, 20, n), rng.integers(20, 40, n)
    lengths = rng.integers(1, 4, n)
    tokens = rng.integers(40, 60, int(lengths.sum()))
    rows = PackedRows.of([Column(a), Column(b), Column(tokens, lengths, "sqrtn")])
    bags = np.add.reduceat(effects[tokens], np.cumsum(lengths) - lengths) / np.sqrt(lengths)
    labels = (rng.random(n) < sigmoid(effects[a] + bags)).astype(np.float32)
    return rows, labels


def test_variances_are_those_of_the_effects_and_near_zero_where_there_are_none() -> None:
    rows, labels = make_rows(20_000)
    fitted = fit_first_order(rows, labels, np.array([0, 20, 40]), 60, 0.1, SEED)
    assert 0.3 < fitted.variances[0] < 3
    assert fitted.variances[1] < 0.01
    assert 0.3 < fitted.variances[2] < 3


def test_the_fit_is_the_optimum() -> None:
    rows, labels = make_rows(3_000)
    fitted = fit_first_order(rows, labels, np.array([0, 20, 40]), 60, 0.1, SEED)
    dense = np.zeros((3_000, 60))
    np.add.at(dense, (np.repeat(np.arange(3_000), np.diff(rows.row_starts())), rows.ids), rows.weights())
    residuals = sigmoid(fitted.logits(rows)) - labels
    gradient = dense.T @ residuals + fitted.weights / np.repeat(fitted.variances, 20)
    assert np.abs(gradient).max() < 0.05
    assert abs(residuals.sum()) < 0.05


def test_a_log_of_one_class_has_no_weights() -> None:
    rows, labels = make_rows(50)
    fitted = fit_first_order(rows, np.zeros_like(labels), np.array([0, 20, 40]), 60, 0.1, SEED)
    assert not fitted.weights.any()
    assert fitted.bias == pytest.approx(np.log(1 / 51))
    assert refit_first_order(rows, np.zeros_like(labels), np.array([0, 20, 40]), fitted, SEED) is fitted


def test_of_a_large_log_a_sample_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, labels = make_rows(20_000)
    whole = fit_first_order(rows, labels, np.array([0, 20, 40]), 60, 0.1, SEED)
    monkeypatch.setattr(first_order, "MAX_ENTRIES", 40_000)
    part = fit_first_order(rows, labels, np.array([0, 20, 40]), 60, 0.1, SEED)
    assert part.weights.tolist() != whole.weights.tolist()
    np.testing.assert_allclose(part.weights[:20], whole.weights[:20], atol=0.5)
