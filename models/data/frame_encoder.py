"""Encodes frames of impressions with an artifact's encoder, some rows at a time, as requests with these values would be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.data.chunk_encoder import encode_numbers
from models.features.encoder import FeatureEncoder
from models.features.field_encoder import Column, FieldEncoder
from models.features.packed_rows import PackedRows
from models.features.vocabulary import IS_COMPILED, MISSING, OOV

BLOCK_ROWS = 4_096
"""Impressions interleaved at once: their ids stay in a core's own cache."""


@dataclass(frozen=True)
class EncodedFrame:
    """B encoded impressions, field by field.

    Args:
        fields: F.
        columns: ids int32.
    """

    fields: Sequence[FieldEncoder]
    columns: Sequence[Column]

    def __len__(self) -> int:
        """Return the number of impressions B."""
        first = self.columns[0]
        return len(first.ids if first.lengths is None else first.lengths)

    def blocks(self) -> Iterator[PackedRows]:
        """Yield the impressions in order, `BLOCK_ROWS` at a time."""
        ends = [None if c.lengths is None else np.cumsum(c.lengths, dtype=np.int64) for c in self.columns]
        for start in range(0, len(self), BLOCK_ROWS):
            end = min(start + BLOCK_ROWS, len(self))
            yield PackedRows.of([_slice(c, e, start, end) for c, e in zip(self.columns, ends, strict=True)])

    def count_special(self) -> NDArray[np.int64]:
        """Return how many values of each field were MISSING and how many OOV, int64 [2, F]."""
        pairs = list(zip(self.fields, self.columns, strict=True))
        return np.array(
            [[np.count_nonzero(c.ids == f.start + special) for f, c in pairs] for special in (MISSING, OOV)]
        )

    def count_values(self) -> NDArray[np.int64]:
        """Return how many values each field has, int64 [F]."""
        return np.array([len(column.ids) for column in self.columns])


class FrameEncoder:
    """Encodes canonical columns (see `models.data.impressions`); unlike a `ChunkEncoder` it needs no more of the log.

    Tokens are looked up as those of requests are, without a Python object for each.

    Args:
        encoder: the artifact's.
    """

    def __init__(self, encoder: FeatureEncoder) -> None:
        self.fields = encoder.fields

    def encode(self, columns: Mapping[str, pl.Series]) -> EncodedFrame:
        """Encode B impressions, given by the name of the field."""
        return EncodedFrame(self.fields, [_encode(field, columns[field.spec.name]) for field in self.fields])


def _encode(field: FieldEncoder, values: pl.Series) -> Column:
    if field.spec.kind == "numeric":
        return Column(encode_numbers(field, values.to_numpy()))
    if field.spec.kind == "categorical":
        return Column(find_rows(field, values))
    values = values.list.tail(field.spec.max_length)
    lengths = values.list.len().fill_null(0).clip(lower_bound=1).cast(pl.UInt16).to_numpy()
    return Column(find_rows(field, values.explode(empty_as_null=True, keep_nulls=True)), lengths, field.pooling)


def find_rows(field: FieldEncoder, tokens: pl.Series) -> NDArray[np.int32]:
    """Return the table rows of tokens, String [n], as int32 [n]; a null is MISSING."""
    if not IS_COMPILED or field.token_ids is None:
        return field.find_all(tokens.to_list()).astype(np.int32)
    rows = np.empty(len(tokens), np.int32)
    field.token_ids.compiled.find(tokens, field.start, rows)
    return rows


def _slice(column: Column, ends: NDArray[np.int64] | None, start: int, end: int) -> Column:
    if ends is None or column.lengths is None:
        return Column(column.ids[start:end], None, column.pooling)
    first = ends[start - 1] if start else 0
    return Column(column.ids[first : ends[end - 1]], column.lengths[start:end], column.pooling)
