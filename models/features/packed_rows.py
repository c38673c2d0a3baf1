"""Encoded impressions as training keeps them: int32 ids and uint16 lengths, a third of an `EncodedBatch`.

Unpacked to int64 only for the batch that is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.features.encoder import EncodedBatch
from models.features.vocabulary import ranges


@dataclass(frozen=True, slots=True)
class PackedRows:
    """B impressions as bags of table rows, one after the other, as in `EncodedBatch`.

    Args:
        ids: int32 [N].
        lengths: uint16 [B, F], ids in each bag, at least one; ``None`` where every bag holds one.
        num_fields: F.
    """

    ids: NDArray[np.int32]
    lengths: NDArray[np.uint16] | None
    num_fields: int

    @classmethod
    def of(cls, batch: EncodedBatch) -> Self:
        """Pack a batch."""
        lengths = None if batch.is_single else np.diff(batch.offsets).astype(np.uint16).reshape(-1, batch.num_fields)
        return cls(batch.ids.astype(np.int32), lengths, batch.num_fields)

    def __len__(self) -> int:
        """Return the number of impressions B."""
        return len(self.ids) // self.num_fields if self.lengths is None else len(self.lengths)

    def row_starts(self) -> NDArray[np.int64]:
        """Return where each impression's ids begin, int64 [B + 1], for `take` and `select`."""
        if self.lengths is None:
            return np.arange(len(self) + 1, dtype=np.int64) * self.num_fields
        return np.concatenate(([0], np.cumsum(self.lengths.sum(axis=1, dtype=np.int64))))

    def select(self, rows: NDArray[np.int64], starts: NDArray[np.int64]) -> PackedRows:
        """Return the impressions ``rows`` int64 [b], in that order, still packed."""
        F = self.num_fields
        if self.lengths is None:
            return PackedRows(self.ids.reshape(-1, F)[rows].reshape(-1), None, F)
        sizes = starts[rows + 1] - starts[rows]
        return PackedRows(self.ids[ranges(starts[rows], sizes)], self.lengths[rows], F)

    def chunks(self, size: int) -> Iterator[PackedRows]:
        """Yield the impressions in order, at most ``size`` at a time."""
        starts = self.row_starts()
        for at in range(0, len(self), size):
            yield self.select(np.arange(at, min(at + size, len(self))), starts)

    def unpack(self) -> EncodedBatch:
        """Return the same impressions for the model."""
        return EncodedBatch.of_bags(self.ids, self.lengths, self.num_fields)


def join(parts: Sequence[PackedRows]) -> PackedRows:
    """Return the impressions of all ``parts``, at least one, in order."""
    F = parts[0].num_fields
    single = all(p.lengths is None for p in parts)
    lengths = [np.ones((len(p), F), np.uint16) if p.lengths is None else p.lengths for p in parts if not single]
    return PackedRows(np.concatenate([p.ids for p in parts]), np.concatenate(lengths) if lengths else None, F)
