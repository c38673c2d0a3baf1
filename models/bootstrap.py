"""How sure the metrics are: 95 % intervals by resampling (Efron 1979), whole groups at a time where there are groups.

A user's clicks resemble each other; drawing rows one by one would make the intervals too narrow.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.metrics import Floats, Labels, evaluate

NUM_RESAMPLES = 200
MAX_ROWS = 100_000
NAMES = ("auc", "log_loss", "gauc", "normalized_entropy", "calibration", "ece")


def bootstrap(
    labels: Labels, probabilities: Floats, groups: NDArray[Any] | None = None, seed: int = 7
) -> dict[str, tuple[float, float]]:
    """Return the 2.5 % and 97.5 % points of each metric that every resample has, by name.

    Of more than 100,000 rows, so many are resampled, and the distances from the whole's value divided by √(n/100,000)
    (m out of n: Bickel, Götze & van Zwet 1997). ECE is never below zero, so its interval lies a little above its value.

    Args:
        labels: 0 or 1, [B].
        probabilities: float64 [B].
        groups: what is drawn together, [B]; ``None``: single rows.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    units = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]
    num_units = int(units.max()) + 1
    drawn = max(1, round(num_units * min(1.0, MAX_ROWS / len(labels))))
    whole = evaluate(labels, probabilities, groups)
    found: dict[str, list[float]] = {name: [] for name in NAMES}
    for _ in range(NUM_RESAMPLES):
        times = np.bincount(rng.integers(num_units, size=drawn), minlength=num_units)
        rows = np.repeat(np.arange(len(labels)), times[units])
        if not len(rows):
            continue
        one = evaluate(labels[rows], probabilities[rows], None if groups is None else groups[rows])
        for name, values in found.items():
            value = getattr(one, name)
            if value is not None and np.isfinite(value):
                values.append(value)
    shrink = np.sqrt(drawn / num_units)
    intervals = {}
    for name, values in found.items():
        centre = getattr(whole, name)
        if len(values) == NUM_RESAMPLES and centre is not None:
            low, high = centre + shrink * (np.quantile(values, (0.025, 0.975)) - centre)
            intervals[name] = (float(low), float(high))
    return intervals
