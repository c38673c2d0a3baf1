"""One context, many candidates: what each side contributes to the logits is computed once, then added.

The first layer and the sums behind the second order are linear in the fields, so
FM(u ∪ i) = FM(u) + FM(i) + ⟨S_u, S_i⟩  and  W·x = W_u·u + W_i·i  need only the sums of both sides' activations.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.features.encoder import EncodedBatch, Encoder
from models.network.head import Head, SideActivations
from models.network.predictor import pool
from models.schema.feature_schema import Side


class SideScorer:
    """Encodes and scores the fields of one side.

    Args:
        encoder: of all fields.
        head: of all fields.
        side: which fields.
    """

    def __init__(self, encoder: Encoder, head: Head, side: Side) -> None:
        self._positions = [i for i, field in enumerate(encoder.fields) if field.spec.side == side]
        self._head = head
        self.encoder = encoder.side(side)

    def activations(self, batch: EncodedBatch, rows: NDArray[np.float32]) -> SideActivations:
        """Return the activations of n impressions' side.

        Args:
            batch: n impressions of this side's fields.
            rows: float32 [N, E+1], the table row of each of ``batch.ids``.
        """
        return self._head.side_activations(self._positions, pool(batch, rows).fields)

    def nothing(self) -> SideActivations:
        """Return the activations of one impression when no field is on this side: zeros."""
        return self._head.side_activations([], np.empty((1, 0), np.float32))
