"""One context, many candidates: each side's share of the first layer is computed once, then added.

The first layer and the sums behind the second order are linear in the fields, so
FM(u ∪ i) = FM(u) + FM(i) + ⟨S_u, S_i⟩  and  W·x = W_u·u + W_i·i  come from adding the halves of both sides.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.features.encoder import EncodedBatch, Encoder
from models.network.head import Head
from models.network.predictor import pool
from models.schema.feature_schema import Side


class Halves(NamedTuple):
    """What one side brings to the logits of n impressions: product float32 [n, H+E+1] and squares float32 [n]."""

    product: NDArray[np.float32]
    squares: NDArray[np.float32]


class SideScorer:
    """Encodes and scores the fields of one side.

    Args:
        encoder: of all fields.
        head: of all fields.
        side: which fields.
    """

    def __init__(self, encoder: Encoder, head: Head, side: Side) -> None:
        positions = [i for i, field in enumerate(encoder.fields) if field.spec.side == side]
        self.encoder = encoder.side(side)
        self._part = head.part(positions)

    def halves(self, batch: EncodedBatch, rows: NDArray[np.float32]) -> Halves:
        """Return the halves of n encoded sides.

        Args:
            batch: n impressions of this side's fields.
            rows: float32 [N, E+1], the table row of each of ``batch.ids``.
        """
        return Halves(*self._part(pool(batch, rows).fields))

    def nothing(self) -> Halves:
        """Return the halves of one impression when no field is on this side."""
        return Halves(*self._part(np.empty((1, 0), np.float32)))
