"""Metrics of click probabilities, for early stopping, the manifest and the report. Needs numpy alone.

Labels are 0 or 1 of any dtype, probabilities float64, both [B]. Every function raises ``ValueError`` when the two differ in
length or are empty, when a label is not 0 or 1, or when a probability is not in [0, 1].
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.schema.feature_schema import Strict

NUM_BINS = 20
Z_95 = 1.959963984540054

Labels = NDArray[np.number | np.bool_]
Floats = NDArray[np.float64]


class Metrics(Strict):
    """All metrics of one set of predictions; see the functions of the same names. ``gauc`` is ``None`` without groups."""

    rows: int
    base_rate: float
    log_loss: float
    normalized_entropy: float
    auc: float | None
    gauc: float | None = None
    calibration: float
    ece: float


class Reliability(NamedTuple):
    """Mean probability, click rate and its 95 % interval in k ascending bins, float64 [k]; rows int64 [k]."""

    mean_probability: Floats
    click_rate: Floats
    rows: NDArray[np.int64]
    low: Floats
    high: Floats


def evaluate(labels: Labels, probabilities: Floats, groups: NDArray[Any] | None = None) -> Metrics:
    """Return all metrics. ``groups`` [B], any sortable values, are for GAUC.

    >>> m = evaluate(np.array([0, 1, 0, 1]), np.array([0.2, 0.6, 0.4, 0.8]), groups=np.array([7, 7, 8, 8]))
    >>> m.auc, m.gauc, round(m.log_loss, 4), round(m.calibration, 4)
    (1.0, 1.0, 0.367, 1.0)
    """
    return Metrics(
        rows=len(labels),
        base_rate=float(np.mean(labels, dtype=np.float64)),
        log_loss=log_loss(labels, probabilities),
        normalized_entropy=normalized_entropy(labels, probabilities),
        auc=auc(labels, probabilities),
        gauc=None if groups is None else gauc(labels, probabilities, groups),
        calibration=calibration_ratio(labels, probabilities),
        ece=ece(labels, probabilities),
    )


def checked(labels: Labels, scores: Floats, *, probabilities: bool = True) -> tuple[NDArray[np.bool_], Floats]:
    """Return labels as booleans and scores as float64.

    Raises:
        ValueError: they differ in length or are empty, a label is not 0 or 1, or a score is NaN or no probability.
    """
    y, s = labels == 1, np.asarray(scores, np.float64)
    if y.shape != s.shape or y.ndim != 1 or not len(y):
        raise ValueError(f"expected as many labels as scores and at least one, got shapes {y.shape} and {s.shape}")
    if not (y | (labels == 0)).all():
        raise ValueError("labels: expected 0 and 1 only")
    if np.isnan(s).any() or (probabilities and not ((s >= 0) & (s <= 1)).all()):
        raise ValueError("probabilities: expected numbers from 0 to 1" if probabilities else "scores: expected no NaN")
    return y, s


def log_loss(labels: Labels, probabilities: Floats) -> float:
    """Return the mean of `log_losses`, in nats per impression."""
    return float(log_losses(labels, probabilities).mean())


def log_losses(labels: Labels, probabilities: Floats) -> Floats:
    """Return −(y·ln p + (1 − y)·ln(1 − p)), float64 [B], with p clipped to [1e-15, 1 − 1e-15]: at most 34.5 nats."""
    y, p = checked(labels, probabilities)
    p = np.clip(p, 1e-15, 1 - 1e-15)
    return -np.where(y, np.log(p), np.log1p(-p))


def normalized_entropy(labels: Labels, probabilities: Floats) -> float:
    """Return log loss ÷ entropy of the base rate (He et al. 2014): 1 for a constant; inf with one class only."""
    loss, rate = log_loss(labels, probabilities), float(np.mean(labels, dtype=np.float64))
    return loss / float(-rate * np.log(rate) - (1 - rate) * np.log1p(-rate)) if 0 < rate < 1 else float("inf")


def calibration_ratio(labels: Labels, probabilities: Floats) -> float:
    """Return Σp ÷ Σy; 1.05 means that 5 % too many clicks are predicted. Without clicks inf, or 1 if Σp is 0 too."""
    y, p = checked(labels, probabilities)
    return _ratio(float(p.sum()), float(y.sum()))


def calibration_interval(labels: Labels, probabilities: Floats) -> tuple[float, float]:
    """Return Σp over the 95 % Wilson interval of Σy, impressions taken as independent; inf at the upper end without clicks."""
    y, p = checked(labels, probabilities)
    low, high = wilson_interval(np.array([y.sum()]), np.array([len(y)]))
    return _ratio(float(p.mean()), float(high[0])), _ratio(float(p.mean()), float(low[0]))


def auc(labels: Labels, scores: Floats) -> float | None:
    """Return the probability that a click outscores a non-click, ties ½ (Mann–Whitney); ``None`` with one class only.

    >>> auc(np.array([0, 1, 1]), np.array([0.5, 0.5, 0.9]))
    0.75
    """
    areas, _ = _group_aucs(labels, scores, np.zeros(len(labels), np.int64))
    return None if np.isnan(areas[0]) else float(areas[0])


def gauc(labels: Labels, scores: Floats, groups: NDArray[Any]) -> float | None:
    """Return the mean AUC of the groups that have both classes, weighted by their impressions; ``None`` if none has.

    ``groups`` [B] is the group of each row, any sortable values; integers are fastest.
    """
    areas, rows = _group_aucs(labels, scores, np.unique(groups, return_inverse=True)[1])
    both = ~np.isnan(areas)
    return float(np.average(areas[both], weights=rows[both])) if both.any() else None


def ece(labels: Labels, probabilities: Floats, num_bins: int = NUM_BINS) -> float:
    """Return the expected calibration error Σ_b (n_b/n)·|mean p − mean y| over `reliability_curve`'s bins."""
    bins = reliability_curve(labels, probabilities, num_bins)
    return float(np.average(np.abs(bins.mean_probability - bins.click_rate), weights=bins.rows))


def ece_by_chance(probabilities: Floats, num_bins: int = NUM_BINS) -> tuple[float, float, float]:
    """Return mean and 95 % interval of the ECE that these probabilities would have if they were the true ones.

    This is a consistency interval (Bröcker & Smith 2007): an ECE above it says that the probabilities are not calibrated.
    The ECE is a sum of absolute values, so it is positive even then. The clicks of a bin are about normal with variance
    σ² = Σ p(1 − p); their absolute deviation has mean σ·√(2/π) and variance σ²·(1 − 2/π).

    >>> [round(x, 4) for x in ece_by_chance(np.full(1000, 0.5))]  # |mean − ½| of 1,000 coins: √(2/π)·√(¼/1000) = .0126
    [0.0126, 0.0, 0.0313]
    """
    p = np.sort(probabilities)
    variances = np.add.reduceat(p * (1 - p), _bin_starts(p, num_bins))
    mean = np.sqrt(2 / np.pi) * np.sqrt(variances).sum() / len(p)
    deviation = np.sqrt((1 - 2 / np.pi) * variances.sum()) / len(p)
    return float(mean), float(max(mean - Z_95 * deviation, 0)), float(mean + Z_95 * deviation)


def reliability_curve(labels: Labels, probabilities: Floats, num_bins: int = NUM_BINS) -> Reliability:
    """Divide the rows by probability into at most ``num_bins`` bins of equal mass; equal probabilities share a bin."""
    y, p = checked(labels, probabilities)
    order = np.argsort(p)
    y, p = y[order], p[order]
    starts = _bin_starts(p, num_bins)
    rows = np.diff(np.append(starts, len(p)))
    clicks = np.add.reduceat(y.astype(np.int64), starts)
    return Reliability(np.add.reduceat(p, starts) / rows, clicks / rows, rows, *wilson_interval(clicks, rows))


def _bin_starts(p: Floats, num_bins: int) -> NDArray[np.intp]:
    first = np.searchsorted(p, p)  # [B], the rank of the first of equals
    return np.unique(first * num_bins // len(p), return_index=True)[1]


def wilson_interval(clicks: NDArray[np.integer], rows: NDArray[np.integer]) -> tuple[Floats, Floats]:
    """Return the 95 % Wilson score interval of click rates (Wilson 1927), float64 [k] each.

    >>> [x.round(3).tolist() for x in wilson_interval(np.array([0, 5]), np.array([10, 10]))]
    [[0.0, 0.237], [0.278, 0.763]]
    """
    n = rows.astype(np.float64)
    rate, z2 = clicks / n, Z_95**2
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * np.sqrt(rate * (1 - rate) / n + z2 / (4 * n**2))
    return np.where(clicks == 0, 0.0, centre - half), np.where(clicks == rows, 1.0, centre + half)


def _group_aucs(labels: Labels, scores: Floats, codes: NDArray[np.int64]) -> tuple[Floats, NDArray[np.int64]]:
    """Return AUC float64 [G], NaN with one class only, and rows int64 [G] of each group present in ``codes`` [B].

    Sorts one integer key of (group, rank of score, label), which is faster than an index sort of three columns.
    """
    y, s = checked(labels, scores, probabilities=False)
    distinct, ranks = np.unique(s, return_inverse=True)
    keys = np.sort((codes * len(distinct) + ranks) * 2 + y)  # below 2^63 up to 2 G rows
    ties = keys >> 1
    tie_starts = np.flatnonzero(np.diff(ties, prepend=-1))
    clicks = np.add.reduceat(keys & 1, tie_starts)  # [T], in each run of equal scores
    others = np.diff(np.append(tie_starts, len(keys))) - clicks
    groups = ties[tie_starts] // len(distinct)
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    below = np.cumsum(others) - others  # non-clicks of lower score, in this group and in the ones before
    below -= np.repeat(below[starts], np.diff(np.append(starts, len(groups))))
    wins = np.add.reduceat(clicks * (2 * below + others), starts)  # twice the pairs won, ties half
    num_clicks, num_others = np.add.reduceat(clicks, starts), np.add.reduceat(others, starts)
    pairs = num_clicks * num_others
    return np.where(pairs > 0, wins / np.maximum(2 * pairs, 1), np.nan), num_clicks + num_others


def _ratio(predicted: float, observed: float) -> float:
    return predicted / observed if observed else (float("inf") if predicted else 1.0)
