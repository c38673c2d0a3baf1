import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from models.evaluation.curves import average_precision, lift_curve, precision_recall_curve, roc_curve
from models.evaluation.metrics import auc

# Few distinct scores, so that ties are the rule.
ROWS = st.lists(st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])), min_size=1)


def make_scores(n: int = 5_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p = rng.beta(2, 5, n).round(3)
    return (rng.random(n) < p).astype(np.float32), p


def test_roc_points_are_those_of_scikit_learn() -> None:
    y, p = make_scores()
    false, true, _ = oracle.roc_curve(y, p, drop_intermediate=False)
    assert np.allclose(roc_curve(y, p, max_points=10_000), (false, true))


@given(ROWS)
def test_the_area_under_the_roc_is_the_auc_and_points_are_thinned(rows: list[tuple[int, float]]) -> None:
    y, p = (np.array(column) for column in zip(*rows, strict=True))
    false, true = roc_curve(y, p)
    expected = auc(y, p)
    if expected is not None:
        assert np.trapezoid(true, false) == pytest.approx(expected)
        assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    assert len(roc_curve(*make_scores(), max_points=50)[0]) == 50


def test_precision_and_recall_are_those_of_scikit_learn() -> None:
    y, p = make_scores()
    precision, recall, _ = oracle.precision_recall_curve(y, p)
    ours = precision_recall_curve(y, p, max_points=10_000)
    assert np.allclose(ours, (recall[:-1][::-1], precision[:-1][::-1]))  # its last point is no threshold
    assert average_precision(y, p) == pytest.approx(oracle.average_precision_score(y, p))


@given(ROWS)
def test_lift_is_the_click_rate_of_the_rows_taken_over_that_of_all(rows: list[tuple[int, float]]) -> None:
    y, p = (np.array(column) for column in zip(*rows, strict=True))
    share, lift = lift_curve(y, p)
    assert share[-1] == 1
    assert len(share) == len(lift) == len(set(p.tolist()))
    if not y.any():
        assert not lift.any()
        assert average_precision(y, p) is None
        return
    for score, x, times in zip(sorted(set(p.tolist()), reverse=True), share, lift, strict=True):
        taken = p >= score
        assert x == pytest.approx(taken.mean())
        assert times == pytest.approx(y[taken].mean() / y.mean())
