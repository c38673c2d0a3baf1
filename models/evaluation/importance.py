"""What each field contributes: how much worse the model does when one field's values are dealt to other impressions.

Permutation importance (Breiman 2001; Fisher, Rudin & Dominici 2019) on encoded rows: what a field's values bring to the
head's first, linear step is computed once and shuffled, so nothing is encoded or pooled again. Fields that say the same
share what they contribute between them.
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
"""Of the pooled rows held at once: a quarter of a gigabyte."""


class Importance(NamedTuple):
    """By how much the mean log loss rises without a field, in nats per impression, ± half its 95 % interval."""

    field: str
    rise: float
    error: float


def permutation_importance(
    predictor: Predictor,
    table: NDArray[np.float32],
    rows: PackedRows,
    labels: Labels,
    names: list[str],
    seed: int,
) -> list[Importance]:
    """Return each field's importance on at most 50,000 impressions, evenly spaced; the field that matters most first.

    Args:
        predictor: with its calibration: the losses are those of calibrated probabilities.
        table: float32 [R, E+1].
        rows: B impressions of F fields, at least one.
        labels: 0 or 1, [B].
        names: of the fields, F.
        seed: of the permutations, one for each field.
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
        dealt = rng.permutation(num_rows)
        permuted = SideActivations(*(all_ - one + one[dealt] for all_, one in zip(all_fields, own, strict=True)))
        rises = log_losses(labels, _probabilities(predictor, permuted)) - before
        found.append(Importance(name, float(rises.mean()), Z_95 * float(rises.std()) / float(np.sqrt(num_rows))))
    return sorted(found, key=lambda importance: -importance.rise)


def rows_used(rows: PackedRows, table: NDArray[np.float32]) -> int:
    """Return on how many impressions `permutation_importance` rests."""
    numbers_per_row = rows.num_fields * int(table.shape[1])
    return min(len(rows), MAX_ROWS, max(1, MAX_NUMBERS // numbers_per_row))


def _pooled(rows: PackedRows, table: NDArray[np.float32]) -> NDArray[np.float32]:
    # The vectors of all fields, float32 [B, F·(E+1)].
    starts = rows.row_starts()
    pooled = np.empty((len(rows), rows.num_fields * table.shape[1]), np.float32)
    for at in range(0, len(rows), CHUNK):
        batch = rows.select(np.arange(at, min(at + CHUNK, len(rows))), starts).unpack()
        pooled[at : at + CHUNK] = pool(batch, table.take(batch.ids, axis=0)).fields
    return pooled


def _probabilities(predictor: Predictor, activations: SideActivations) -> Floats:
    # All fields as candidates, ranked beside a context of none.
    nothing = predictor.head.side_activations([], np.empty((1, 0), np.float32))
    return predictor.calibration.of_log(predictor.head.rank(nothing, activations, np.arange(len(activations.squares))))
