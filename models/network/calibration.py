"""Calibration: from the model's logit to the probability of a click. Stored in ``calibration.json``."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat, model_validator

from models.schema.feature_schema import Strict

MIN_PROBABILITY = 1e-7
"""Probabilities lie between this and one minus this."""
MAX_LOGIT = 16.118
"""Slightly less than the logit of 1 − `MIN_PROBABILITY`."""
NUM_FOLDS = 5
"""Of the comparison in `fit_calibration`."""
SLOPE_SD, LEVEL_SD = 0.2, 0.15
"""How far the best slope and level lie from 1 and 0 with the models of small logs, see ``docs/experiments.md``."""
MIN_SLOPE = 1e-3

Floats = NDArray[np.float64]


class Calibration(Strict):
    """A monotone map from logits to probabilities, then the correction for down-sampled non-clicks.

    ``platt``: p = σ(slope·z + intercept) (Platt 1999), fitted by `fit_platt`. ``isotonic``: p interpolated linearly between
    the points (logits, probabilities) and constant outside them (Zadrozny & Elkan 2002). ``identity``: p = σ(z).
    """

    method: Literal["identity", "platt", "isotonic"] = "identity"
    slope: Annotated[FiniteFloat, Field(gt=0)] = 1.0
    intercept: FiniteFloat = 0.0
    logits: tuple[FiniteFloat, ...] = ()
    probabilities: tuple[Annotated[float, Field(ge=0, le=1)], ...] = ()
    negatives_kept: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share r of the non-clicks that the log kept. Odds in the log are 1/r times too large (He et al. 2014, §6.3)."""

    @model_validator(mode="after")
    def _monotone(self) -> Self:
        if self.method == "isotonic":
            increasing = all(a < b for a, b in pairwise(self.logits)) and all(
                a <= b for a, b in pairwise(self.probabilities)
            )
            if not self.logits or len(self.logits) != len(self.probabilities) or not increasing:
                raise ValueError("isotonic calibration needs as many probabilities as logits, both ascending")
        return self

    def of_log(self, logits: NDArray[np.floating]) -> Floats:
        """Return the probability of a click in the log, where some non-clicks may have been dropped.

        Args:
            logits: [B]; NaN propagates.

        Returns:
            float64 [B], between `MIN_PROBABILITY` and 1 − `MIN_PROBABILITY`.
        """
        if self.method == "isotonic":
            return _clip(np.interp(logits, self.logits, self.probabilities), MIN_PROBABILITY, 1 - MIN_PROBABILITY)
        z = logits * np.float64(-self.slope)
        z -= self.intercept
        p = np.exp(_clip(z, -MAX_LOGIT, MAX_LOGIT), out=z)
        p += 1
        return np.reciprocal(p, out=p)

    def of_traffic(self, logits: NDArray[np.floating]) -> Floats:
        """Return the probability of a click in the whole traffic, before non-clicks were dropped; float64 [B]."""
        p = self.of_log(logits)
        if self.negatives_kept == 1.0:
            return p
        clicks = p * self.negatives_kept
        return _clip(clicks / (clicks + 1 - p), MIN_PROBABILITY, 1 - MIN_PROBABILITY)


def _clip(x: Floats, low: float, high: float) -> Floats:
    # In place. np.clip takes five times as long for a few numbers.
    return np.minimum(np.maximum(x, low, out=x), high, out=x)


def sigmoid(z: Floats) -> Floats:
    """Return 1 / (1 + e^−z) without overflow.

    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1.0, e) / (1.0 + e)


def fit_platt(logits: Floats, labels: Floats, slope_sd: float = SLOPE_SD, level_sd: float = LEVEL_SD) -> Calibration:
    """Fit slope and intercept by penalised maximum likelihood: the model's own logits are right unless clicks say otherwise.

    logit p = c + level + slope·(z − c), where c is the mean of z weighted by its variance σ(z)(1 − σ(z)), so that the two
    hardly depend on each other. Their priors are normal: slope around 1, level around 0. The prior of the level weighs as
    much as 1 ÷ ``level_sd``² clicks: with fewer the fit stays near the model's logits, with many it is Platt scaling.

    Args:
        logits: z, float64 [B].
        labels: 0 or 1, float64 [B].
        slope_sd: standard deviation of the prior of the slope; near 0 the map is a shift, large means no prior.
        level_sd: standard deviation of the prior of the level, in logits.
    """
    from scipy.optimize import minimize  # only training needs it

    p = sigmoid(logits)
    centre = float(np.average(logits, weights=np.maximum(p * (1 - p), 1e-12)))
    x = logits - centre
    at, sds = np.array([1.0, 0.0]), np.array([slope_sd, level_sd])

    def loss(parameters: Floats) -> float:
        u = centre + parameters[1] + parameters[0] * x
        return float(np.logaddexp(0, u).sum() - labels @ u + 0.5 * (((parameters - at) / sds) ** 2).sum())

    def gradient(parameters: Floats) -> Floats:
        excess = sigmoid(centre + parameters[1] + parameters[0] * x) - labels
        slopes: Floats = np.array([excess @ x, excess.sum()]) + (parameters - at) / sds**2
        return slopes

    def hessian(parameters: Floats) -> Floats:
        p = sigmoid(centre + parameters[1] + parameters[0] * x)
        w = p * (1 - p)
        cross = w @ x
        curvature: Floats = np.array([[w @ x**2, cross], [cross, w.sum()]]) + np.diag(1 / sds**2)
        return curvature

    slope, level = minimize(loss, at, jac=gradient, hess=hessian, method="trust-exact").x.tolist()
    if slope <= MIN_SLOPE:  # no useful ranking: predict the mean
        rate = (labels.sum() + 1) / (len(labels) + 2)
        slope, intercept = MIN_SLOPE, float(np.log(rate / (1 - rate)) - MIN_SLOPE * logits.mean())
    else:
        intercept = centre + level - slope * centre
    return Calibration(method="platt", slope=slope, intercept=intercept)


def level_shift(calibration: Calibration, logits: NDArray[np.floating], clicks: float) -> float:
    """Return δ with Σp = clicks, where p are the calibrated probabilities of z + δ; by bisection, so for any monotone map.

    Args:
        calibration: the map; its correction for dropped non-clicks is not applied.
        logits: z, [B].
        clicks: number of clicks that the rows are to promise, between 0 and B.

    >>> round(level_shift(Calibration(), np.zeros(4), 1.0), 4)  # −ln 3
    -1.0986
    """
    z = logits.astype(np.float64)
    low, high = -MAX_LOGIT, MAX_LOGIT
    for _ in range(50):
        middle = (low + high) / 2
        if calibration.of_log(z + middle).sum() < clicks:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def fit_isotonic(logits: Floats, labels: Floats) -> Calibration:
    """Fit by pooling adjacent violators; each pool becomes one point at its mean logit.

    Probabilities are clipped to 1/(B+2) and 1 − 1/(B+2) (Laplace), so that the log loss of any label is finite.

    Args:
        logits: float64 [B].
        labels: 0 or 1, float64 [B].
    """
    order = np.argsort(logits, kind="stable")
    least = 1 / (len(labels) + 2)
    pools: list[list[float]] = []  # [Σ logit, Σ label, rows]
    # Starts from at most 1,000 groups of equal size, which is quick for millions of rows.
    for part in np.array_split(order, min(len(order), 1_000)):
        pools.append([logits[part].sum(), labels[part].sum(), float(len(part))])
        while len(pools) > 1 and pools[-2][1] * pools[-1][2] >= pools[-1][1] * pools[-2][2]:
            z, y, n = pools.pop()
            pools[-1] = [pools[-1][0] + z, pools[-1][1] + y, pools[-1][2] + n]
    points: list[tuple[float, float]] = []
    for z, y, n in pools:
        if not points or z / n > points[-1][0]:
            points.append((float(z / n), float(np.clip(y / n, least, 1 - least))))
    return Calibration(method="isotonic", logits=tuple(z for z, _ in points), probabilities=tuple(p for _, p in points))


def fit_calibration(
    logits: NDArray[np.floating], labels: NDArray[np.floating], negatives_kept: float = 1.0
) -> Calibration:
    """Fit Platt and isotonic, and keep the one with the lower log loss on held-out folds.

    Folds are contiguous, so some are later than the rows fitted on. Isotonic has no prior, so it is chosen only if it is
    better by more than two standard errors of the paired difference.

    Args:
        logits: of validation rows in time order, [B].
        labels: 0 or 1, [B], both present.
        negatives_kept: see `Calibration`.
    """
    z, y = logits.astype(np.float64), labels.astype(np.float64)
    gains = []  # of isotonic over Platt in log loss on each held-out row, in nats
    for fold in np.array_split(np.arange(len(z)), NUM_FOLDS):
        rest = np.setdiff1d(np.arange(len(z)), fold)
        if len(fold) and 0 < y[rest].sum() < len(rest):
            platt, isotonic = (
                _log_losses(fit(z[rest], y[rest]).of_log(z[fold]), y[fold]) for fit in (fit_platt, fit_isotonic)
            )
            gains.append(platt - isotonic)
    gain = np.concatenate(gains) if gains else np.zeros(1)
    is_clear = gain.mean() > 2 * gain.std() / np.sqrt(len(gain))
    return (fit_isotonic if is_clear else fit_platt)(z, y).model_copy(update={"negatives_kept": negatives_kept})


def _log_losses(p: Floats, y: Floats) -> Floats:
    return -np.where(y == 1, np.log(p), np.log1p(-p))
