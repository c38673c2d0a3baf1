"""How clicks rank above non-clicks: the curves of the report. Needs numpy alone.

Each takes labels, 0 or 1, and scores, both [B], and returns one point per distinct score, thinned. Errors as in
`models.evaluation.metrics`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.evaluation.metrics import Floats, Labels, checked

MAX_POINTS = 500


def roc_curve(labels: Labels, scores: Floats, max_points: int = MAX_POINTS) -> tuple[Floats, Floats]:
    """Return false and true positive rates from (0, 0) to (1, 1), float64 [k] with k ≤ ``max_points``.

    With one class only, the rate of the other is 0 everywhere.
    """
    rows, clicks = _taken(labels, scores)
    false, true = np.append(0, rows - clicks), np.append(0, clicks)
    keep = _thinned(len(true), max_points)
    return false[keep] / max(int(false[-1]), 1), true[keep] / max(int(true[-1]), 1)


def precision_recall_curve(labels: Labels, scores: Floats, max_points: int = MAX_POINTS) -> tuple[Floats, Floats]:
    """Return recall (share of all clicks taken) and precision (click rate of the rows taken), float64 [k].

    Rows are taken by descending score. Without clicks recall is 0 everywhere.

    >>> precision_recall_curve(np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.1]))[1].round(2).tolist()
    [1.0, 0.5, 0.67, 0.5]
    """
    rows, clicks = _taken(labels, scores)
    keep = _thinned(len(rows), max_points, is_dense_first=True)
    return clicks[keep] / max(int(clicks[-1]), 1), clicks[keep] / rows[keep]


def lift_curve(labels: Labels, scores: Floats, max_points: int = MAX_POINTS) -> tuple[Floats, Floats]:
    """Return the share of rows taken, and the click rate of these rows ÷ that of all rows, float64 [k].

    Rows are taken by descending score, so the last point is (1, 1). Without clicks the lift is 0 everywhere.
    """
    rows, clicks = _taken(labels, scores)
    keep = _thinned(len(rows), max_points, is_dense_first=True)
    return rows[keep] / rows[-1], (clicks[keep] / rows[keep]) * (rows[-1] / max(int(clicks[-1]), 1))


def average_precision(labels: Labels, scores: Floats) -> float | None:
    """Return Σ precision · rise in recall over all thresholds; ``None`` without clicks.

    >>> average_precision(np.array([1, 0, 0, 1]), np.array([0.9, 0.8, 0.7, 0.1]))
    0.75
    """
    rows, clicks = _taken(labels, scores)
    return float((np.diff(clicks, prepend=0) * clicks / rows).sum() / clicks[-1]) if clicks[-1] else None


def _taken(labels: Labels, scores: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    # The number of rows, and of clicks among them, that score at least each distinct score, the highest first.
    y, s = checked(labels, scores, probabilities=False)
    order = np.argsort(-s)
    y, s = y[order], s[order]
    ends = np.append(np.flatnonzero(np.diff(s)), len(s) - 1)  # the last row of each distinct score
    return ends + 1, np.cumsum(y, dtype=np.int64)[ends]


def _thinned(num_points: int, max_points: int, *, is_dense_first: bool = False) -> NDArray[np.int64]:
    if num_points <= max_points:
        return np.arange(num_points)
    places = np.linspace(0, num_points - 1, max_points)
    if is_dense_first:  # half of the points by equal ratios: the best-scored rows matter most
        places = np.append(places[::2], np.geomspace(1, num_points, max_points // 2) - 1)
    return np.unique(np.append(places.round().astype(np.int64), num_points - 1))
