"""Predictor: from encoded impressions and their table rows to logits and probabilities, in training's report as in serving."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.features.encoder import EncodedBatch
from models.features.packed_rows import PackedRows
from models.network.calibration import Calibration
from models.network.head import Floats, Head, Pooled
from models.network.table_rows import take_rows

CHUNK = 512
"""Impressions scored at once: few enough that their rows stay in a core's own cache until the head has read them."""


class Predictor:
    """The dense part of a model, ready to score.

    Args:
        head: from pooled rows to logits.
        calibration: from logits to probabilities.
    """

    def __init__(self, head: Head, calibration: Calibration) -> None:
        self.head = head
        self.calibration = calibration

    def logits(self, batch: EncodedBatch, rows: Floats) -> Floats:
        """Return the logits float32 [B].

        Args:
            batch: B impressions.
            rows: float32 [N, E+1], the table row of each of ``batch.ids``, from whatever tier.
        """
        return self.head.logits(pool(batch, rows))

    def score(self, batch: EncodedBatch, rows: Floats) -> NDArray[np.float64]:
        """Return the probabilities float64 [B] of what `logits` takes."""
        return self.probabilities(self.logits(batch, rows))

    def probabilities(self, logits: Floats) -> NDArray[np.float64]:
        """Return calibrated click probabilities, float64 [B], in (0, 1)."""
        return self.calibration.of_traffic(logits)

    def score_table(self, batch: EncodedBatch, table: Floats) -> Floats:
        """Return the logits float32 [B] with rows read from ``table`` float32 [R, E+1]."""
        return self.logits(batch, take_rows(table, batch.ids))


def pool(batch: EncodedBatch, rows: Floats) -> Pooled:
    """Return each bag's weighted sum of rows.

    Args:
        batch: B impressions of F fields.
        rows: float32 [N, E+1], one for each of ``batch.ids``.
    """
    if batch.is_single:
        return Pooled(rows.reshape(len(batch), -1), batch.ids)
    # No bag is empty, so a segment starts at every offset.
    bags = np.add.reduceat(rows * batch.weights[:, np.newaxis], batch.offsets[:-1], axis=0)
    return Pooled(bags.reshape(len(batch), -1), batch.ids[batch.offsets[:-1]])


def score_rows(predictor: Predictor, rows: PackedRows, table: Floats) -> Floats:
    """Return the logits float32 [B] with rows read from ``table`` float32 [R, E+1], a chunk at a time."""
    logits = [predictor.score_table(chunk.unpack(), table) for chunk in rows.chunks(CHUNK)]
    return np.concatenate(logits) if logits else np.empty(0, np.float32)
