import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from models.evaluation.metrics import (
    auc,
    calibration_interval,
    calibration_ratio,
    ece,
    ece_by_chance,
    evaluate,
    gauc,
    log_loss,
    log_losses,
    normalized_entropy,
    reliability_curve,
    wilson_interval,
)

# Few distinct scores, so that ties are the rule.
ROWS = st.lists(st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]), st.integers(0, 3)), min_size=1)


def arrays(rows: list[tuple[int, float, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    y, p, g = zip(*rows, strict=True)
    return np.array(y), np.array(p), np.array(g)


def make_scores(n: int = 5_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = rng.beta(2, 5, n).round(3)
    return (rng.random(n) < p).astype(np.float32), p


def pairwise_auc(y: np.ndarray, p: np.ndarray) -> float | None:
    wins = [(a > b) + (a == b) / 2 for a in p[y == 1] for b in p[y == 0]]
    return sum(wins) / len(wins) if wins else None


@given(ROWS)
def test_auc_counts_the_pairs_that_are_in_order(rows: list[tuple[int, float, int]]) -> None:
    y, p, _ = arrays(rows)
    expected = pairwise_auc(y, p)
    assert auc(y, p) == (expected if expected is None else pytest.approx(expected))


@given(ROWS)
def test_gauc_is_the_mean_over_groups_with_both_classes_by_impressions(rows: list[tuple[int, float, int]]) -> None:
    y, p, g = arrays(rows)
    areas = {k: (pairwise_auc(y[g == k], p[g == k]), int((g == k).sum())) for k in set(g.tolist())}
    both = [(a, n) for a, n in areas.values() if a is not None]
    expected = pytest.approx(sum(a * n for a, n in both) / sum(n for _, n in both)) if both else None
    assert gauc(y, p, g) == expected
    assert gauc(y, p, np.array([f"user {k}" for k in g])) == expected


@given(ROWS)
def test_the_order_of_the_rows_does_not_matter(rows: list[tuple[int, float, int]]) -> None:
    there, back = evaluate(*arrays(rows)), evaluate(*arrays(rows[::-1]))
    assert there.model_dump() == pytest.approx(back.model_dump())


def test_metrics_equal_those_of_scikit_learn() -> None:
    y, p = make_scores()
    assert log_loss(y, p) == pytest.approx(oracle.log_loss(y, p), rel=1e-12)
    assert auc(y, p) == pytest.approx(oracle.roc_auc_score(y, p), rel=1e-12)
    assert log_losses(y, p).mean() == pytest.approx(log_loss(y, p))
    constant = np.full(len(y), y.mean(dtype=np.float64))
    assert normalized_entropy(y, constant) == pytest.approx(1.0)
    assert normalized_entropy(y, p) == pytest.approx(log_loss(y, p) / oracle.log_loss(y, constant))


def test_a_certain_wrong_prediction_has_a_finite_loss() -> None:
    assert log_loss(np.array([1]), np.array([0.0])) == pytest.approx(-np.log(1e-15))
    assert log_loss(np.array([0]), np.array([1.0])) == pytest.approx(-np.log(1e-15), rel=1e-2)
    assert log_loss(np.array([0, 1]), np.array([0.0, 1.0])) == pytest.approx(0, abs=1e-14)


def test_metrics_of_one_class_only() -> None:
    m = evaluate(np.zeros(3), np.array([0.1, 0.2, 0.3]), np.array([1, 1, 2]))
    assert (m.auc, m.gauc, m.normalized_entropy, m.calibration) == (None, None, np.inf, np.inf)
    assert calibration_ratio(np.zeros(2), np.zeros(2)) == 1.0
    assert evaluate(np.ones(2), np.array([0.5, 0.5])).calibration == 0.5


def test_ece_equals_a_slow_loop_over_bins() -> None:
    y, p = make_scores(1_000)
    order = np.argsort(p, kind="stable")
    ranked = p[order]
    bins: dict[int, list[int]] = {}
    for row, value in zip(order.tolist(), ranked.tolist(), strict=True):
        bins.setdefault(ranked.tolist().index(value) * 20 // len(p), []).append(row)
    expected = sum(len(rows) / len(p) * abs(p[rows].mean() - y[rows].mean()) for rows in bins.values())
    assert ece(y, p) == pytest.approx(expected)


def test_ece_by_chance_agrees_with_simulated_clicks() -> None:
    rng = np.random.default_rng(0)
    p = rng.beta(1, 4, 5_000)
    drawn = [ece(rng.random(len(p)) < p, p) for _ in range(400)]
    mean, low, high = ece_by_chance(p)
    assert mean == pytest.approx(np.mean(drawn), rel=0.03)
    assert [low, high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]).tolist(), rel=0.1)


def test_bins_hold_equal_mass_unless_values_are_equal() -> None:
    y, p = make_scores(10_000)
    distinct = p + np.arange(len(p)) * 1e-9
    assert reliability_curve(y, distinct).rows.tolist() == [500] * 20
    constant = reliability_curve(y, np.full(len(y), 0.3))
    assert constant.rows.tolist() == [10_000]
    assert ece(y, np.full(len(y), 0.3)) == pytest.approx(abs(0.3 - y.mean()))


def test_intervals_cover_the_truth_about_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(3)
    clicks = rng.binomial(400, 0.02, 20_000)
    low, high = wilson_interval(clicks, np.full_like(clicks, 400))
    assert ((low <= 0.02) & (high >= 0.02)).mean() == pytest.approx(0.95, abs=0.02)
    y, p = make_scores()
    low_ratio, high_ratio = calibration_interval(y, p)
    assert low_ratio < calibration_ratio(y, p) < high_ratio
    assert low_ratio < 1 < high_ratio
    assert calibration_interval(np.zeros(5), np.full(5, 0.1))[1] == np.inf


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([], [], "at least one"),
        ([0, 1], [0.5], "as many"),
        ([0, 2], [0.5, 0.5], "0 and 1"),
        ([0, np.nan], [0.5, 0.5], "0 and 1"),
        ([0, 1], [0.5, np.nan], "from 0 to 1"),
        ([0, 1], [0.5, 1.1], "from 0 to 1"),
    ],
)
def test_invalid_labels_and_probabilities_are_refused(
    labels: list[float], probabilities: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        log_loss(np.array(labels, float), np.array(probabilities, float))


def test_auc_takes_logits_but_no_nan() -> None:
    assert auc(np.array([0, 1]), np.array([-3.0, 7.0])) == 1.0
    with pytest.raises(ValueError, match="NaN"):
        auc(np.array([0, 1]), np.array([np.nan, 7.0]))
