"""Encoded impressions as training keeps them: int32 ids and uint16 lengths, a third of an `EncodedBatch`.

Unpacked to int64 only for the batch that is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.features.encoder import EncodedBatch, bag_weights, interleave
from models.features.field_encoder import Column
from models.features.vocabulary import ranges
from models.schema.feature_schema import Pooling


@dataclass(frozen=True, slots=True)
class PackedRows:
    """B impressions as bags of table rows, one after the other, as in `EncodedBatch`.

    Args:
        ids: int32 [N].
        lengths: uint16 [B, F], ids in each bag, at least one; ``None`` where every bag holds one.
        poolings: of the F fields.
    """

    ids: NDArray[np.int32]
    lengths: NDArray[np.uint16] | None
    poolings: tuple[Pooling, ...]

    @classmethod
    def of(cls, columns: Sequence[Column]) -> Self:
        """Pack F encoded columns of B impressions each."""
        ids, lengths = interleave(columns)
        short = None if lengths is None else lengths.astype(np.uint16, copy=False)
        return cls(ids.astype(np.int32, copy=False), short, tuple(column.pooling for column in columns))

    @property
    def num_fields(self) -> int:
        """F."""
        return len(self.poolings)

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
            return PackedRows(self.ids.reshape(-1, F)[rows].reshape(-1), None, self.poolings)
        sizes = starts[rows + 1] - starts[rows]
        return PackedRows(self.ids[ranges(starts[rows], sizes)], self.lengths[rows], self.poolings)

    def weights(self) -> NDArray[np.float32]:
        """Return what each table row of a bag is multiplied by before they are added, float32 [N]."""
        return np.ones(len(self.ids), np.float32) if self.lengths is None else bag_weights(self.lengths, self.poolings)

    def chunks(self, size: int) -> Iterator[PackedRows]:
        """Yield the impressions in order, at most ``size`` at a time."""
        F, starts = self.num_fields, None if self.lengths is None else self.row_starts()
        for at in range(0, len(self), size):
            end = min(at + size, len(self))
            if self.lengths is None or starts is None:
                yield PackedRows(self.ids[at * F : end * F], None, self.poolings)
            else:
                yield PackedRows(self.ids[starts[at] : starts[end]], self.lengths[at:end], self.poolings)

    def unpack(self) -> EncodedBatch:
        """Return the same impressions for the model."""
        return EncodedBatch.of_bags(self.ids, self.lengths, self.poolings)


def join(parts: Sequence[PackedRows]) -> PackedRows:
    """Return the impressions of all ``parts``, at least one, of the same fields, in order."""
    F = parts[0].num_fields
    single = all(p.lengths is None for p in parts)
    lengths = [np.ones((len(p), F), np.uint16) if p.lengths is None else p.lengths for p in parts if not single]
    ids = np.concatenate([p.ids for p in parts])
    return PackedRows(ids, np.concatenate(lengths) if lengths else None, parts[0].poolings)
