"""Permutation importance (Breiman 2001; Fisher, Rudin & Dominici 2019): the rise in log loss when a field's values are shuffled.

The head's first step is linear in the fields, so a field's contribution to it is computed once and shuffled; nothing is
encoded or pooled again. Correlated fields share their importance.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.evaluation.metrics import Z_95, Floats, Labels, log_losses
from models.features.packed_rows import PackedRows
from models.network.head import SideActivations
from models.network.predictor import CHUNK, Predictor, pool

MAX_ROWS = 50_000
MAX_NUMBERS = 2**26
"""Limit for the pooled rows in memory: a quarter of a gigabyte."""


class Importance(NamedTuple):
    """Rise of the mean log loss without a field, in nats per impression; ``error`` is half its 95 % interval."""

    field: str
    rise: float
    error: float

    @property
    def is_clear(self) -> bool:
        """Whether the rise is larger than zero beyond the interval."""
        return self.rise > self.error


def permutation_importance(
    predictor: Predictor,
    table: NDArray[np.float32],
    rows: PackedRows,
    labels: Labels,
    names: list[str],
    seed: int,
) -> list[Importance]:
    """Return the importance of each field, the largest first, measured on at most 50,000 evenly spaced impressions.

    Args:
        predictor: with its calibration; the losses are of calibrated probabilities.
        table: float32 [R, E+1].
        rows: B impressions of F fields, at least one.
        labels: 0 or 1, [B].
        names: of the fields, F.
        seed: of the permutations.
    """
    D, num_rows = table.shape[1], rows_used(rows, table)
    drawn = np.linspace(0, len(rows) - 1, num_rows).astype(np.int64)
    labels = labels[drawn]
    fields = _pooled(rows.select(drawn, rows.row_starts()), table)
    all_fields = predictor.head.side_activations(range(len(names)), fields)
    before = log_losses(labels, _probabilities(predictor, all_fields))
    rng = np.random.default_rng(seed)
    found = []
    for f, name in enumerate(names):
        own = predictor.head.side_activations([f], fields[:, f * D : (f + 1) * D])
        shuffled = rng.permutation(num_rows)
        permuted = SideActivations(*(all_ - one + one[shuffled] for all_, one in zip(all_fields, own, strict=True)))
        rises = log_losses(labels, _probabilities(predictor, permuted)) - before
        found.append(Importance(name, float(rises.mean()), Z_95 * float(rises.std()) / float(np.sqrt(num_rows))))
    return sorted(found, key=lambda importance: -importance.rise)


def rows_used(rows: PackedRows, table: NDArray[np.float32]) -> int:
    """Return the number of impressions that `permutation_importance` uses."""
    numbers_per_row = rows.num_fields * int(table.shape[1])
    return min(len(rows), MAX_ROWS, max(1, MAX_NUMBERS // numbers_per_row))


def _pooled(rows: PackedRows, table: NDArray[np.float32]) -> NDArray[np.float32]:
    # The vectors of all fields, float32 [B, F·(E+1)].
    pooled = np.empty((len(rows), rows.num_fields * table.shape[1]), np.float32)
    for i, chunk in enumerate(rows.chunks(CHUNK)):
        batch = chunk.unpack()
        pooled[i * CHUNK : (i + 1) * CHUNK] = pool(batch, table.take(batch.ids, axis=0)).fields
    return pooled


def _probabilities(predictor: Predictor, activations: SideActivations) -> Floats:
    # All fields as candidates, ranked beside a context of none.
    nothing = predictor.head.side_activations([], np.empty((1, 0), np.float32))
    return predictor.calibration.of_log(predictor.head.rank(nothing, activations, np.arange(len(activations.squares))))
