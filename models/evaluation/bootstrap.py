"""Bootstrap intervals of the metrics (Efron 1979): 95 %, resampling whole groups if there are groups.

The clicks of one user are correlated, so intervals from single rows would be too narrow. Two predictions of the same rows are
compared on the same resamples, so that the difficulty of a resample cancels in their difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation.metrics import Floats, Labels, evaluate

NUM_RESAMPLES = 200
MAX_ROWS = 100_000
NAMES = ("auc", "log_loss", "gauc", "normalized_entropy", "calibration", "ece")


@dataclass(frozen=True)
class Resampled:
    """Metrics of K predictions of the same rows; NaN where a metric is not finite.

    Args:
        whole: by metric, of all rows, float64 [K].
        draws: by metric, of each resample that is not empty, float64 [S, K].
        shrink: factor for the deviations of the resamples, which can be smaller than the whole.
    """

    whole: Mapping[str, Floats]
    draws: Mapping[str, Floats]
    shrink: float

    def interval(self, name: str, weights: Sequence[float] = (1.0,)) -> tuple[float, float] | None:
        """Return the 2.5 % and 97.5 % quantiles of Σ_k weights_k · metric_k; ``None`` if it is not finite in a resample.

        ``(1, -1)`` gives the interval of a difference, ``(1/2, 1/2)`` that of a mean. ECE has intervals of differences only:
        it is a sum of absolute values, so a resample's is larger on average, and an interval of them need not hold it. What is
        to be compared with is `models.evaluation.metrics.ece_by_chance`.
        """
        if name == "ece" and abs(sum(weights)) > 1e-9:
            return None
        centre, values = self.value(name, weights), self.draws[name] @ np.asarray(weights)
        if centre is None or len(values) < NUM_RESAMPLES or np.isnan(values).any():
            return None
        low, high = centre + self.shrink * (np.quantile(values, (0.025, 0.975)) - centre)
        return float(low), float(high)

    def value(self, name: str, weights: Sequence[float] = (1.0,)) -> float | None:
        """Return Σ_k weights_k · metric_k of all rows; ``None`` if it is not finite."""
        value = float(self.whole[name] @ np.asarray(weights))
        return value if np.isfinite(value) else None


def resample(
    labels: Labels, predictions: Sequence[Floats], groups: NDArray[Any] | None = None, seed: int = 7
) -> Resampled:
    """Evaluate K predictions on 200 resamples of the rows, the same ones for each.

    With more than 100,000 rows the resamples have about 100,000, and their deviations are divided by √(n/100,000) (m out of n
    bootstrap: Bickel, Götze & van Zwet 1997).

    Args:
        labels: 0 or 1, [B].
        predictions: K arrays of probabilities, float64 [B].
        groups: the group of each row, [B]; groups are drawn whole. ``None`` draws single rows.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    units = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]
    num_units = int(units.max()) + 1
    drawn = max(1, round(num_units * min(1.0, MAX_ROWS / len(labels))))
    codes = None if groups is None else units
    whole = _values(labels, predictions, codes)
    draws = []
    for _ in range(NUM_RESAMPLES):
        times = np.bincount(rng.integers(num_units, size=drawn), minlength=num_units)
        rows = np.repeat(np.arange(len(labels)), times[units])
        if len(rows):
            draws.append(_values(labels[rows], [p[rows] for p in predictions], None if codes is None else codes[rows]))
    by_name = np.array(draws).transpose(1, 0, 2) if draws else np.empty((len(NAMES), 0, len(predictions)))
    return Resampled(
        dict(zip(NAMES, whole, strict=True)),
        dict(zip(NAMES, by_name, strict=True)),
        float(np.sqrt(drawn / num_units)),
    )


def bootstrap(
    labels: Labels, probabilities: Floats, groups: NDArray[Any] | None = None, seed: int = 7
) -> dict[str, tuple[float, float]]:
    """Return the 95 % interval of each metric but ECE that is finite in every resample, by name. Arguments as in `resample`."""
    found = resample(labels, [probabilities], groups, seed)
    return {name: ends for name in NAMES if (ends := found.interval(name)) is not None}


def _values(labels: Labels, predictions: Sequence[Floats], codes: NDArray[np.int64] | None) -> Floats:
    # The metrics of each prediction, float64 [metrics, K].
    values = np.full((len(NAMES), len(predictions)), np.nan)
    for k, probabilities in enumerate(predictions):
        found = evaluate(labels, probabilities, codes)
        for i, name in enumerate(NAMES):
            value = getattr(found, name)
            values[i, k] = np.nan if value is None or not np.isfinite(value) else value
    return values
