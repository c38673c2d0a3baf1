"""Scores encoded impressions: pooled rows → head → calibration. Training's report and the server share this class."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from models.calibration import Calibration
from models.deepfm import DeepFMHead, pool
from models.encoding import EncodedBatch

# Impressions scored at once: bounds memory, and keeps the activations in the cache.
CHUNK = 4_096


class Predictor:
    """The dense part of a model, ready to score.

    Args:
        head: in evaluation mode.
        calibration: from logits to probabilities.
    """

    def __init__(self, head: DeepFMHead, calibration: Calibration) -> None:
        self.head = head.eval()
        self.calibration = calibration

    def logits(self, batch: EncodedBatch, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits float32 [B].

        Args:
            batch: B impressions.
            rows: float32 [N, E+1], the table row of each of ``batch.ids``, from whatever tier.
        """
        with torch.inference_mode():
            index = torch.arange(len(rows))
            fields = pool(
                torch.from_numpy(rows),
                index,
                torch.from_numpy(batch.weights),
                torch.from_numpy(batch.offsets),
                batch.num_fields,
            )
            logits: NDArray[np.float32] = self.head(fields).numpy()
        return logits

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return calibrated click probabilities, float64 [B], in (0, 1)."""
        return self.calibration.of_traffic(logits)

    def score_table(self, batch: EncodedBatch, table: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits float32 [B] with rows read from ``table`` float32 [R, E+1], a chunk at a time."""
        chunks = []
        for start in range(0, len(batch), CHUNK):
            part = batch.take(np.arange(start, min(start + CHUNK, len(batch))))
            chunks.append(self.logits(part, table[part.ids]))
        return np.concatenate(chunks) if chunks else np.empty(0, np.float32)
