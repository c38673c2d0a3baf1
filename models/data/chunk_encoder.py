"""Encodes the chunks of a token log to rows of the embedding table."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.data.impressions import Chunk
from models.data.token_index import NULL
from models.data.token_log import TokenChunk, TokenLog
from models.features.encoder import EncodedBatch, FeatureEncoder
from models.features.field_encoder import FieldEncoder
from models.features.packed_rows import PackedRows
from models.features.vocabulary import MISSING, NUM_SPECIAL, OOV, SLICE

FEW_BOUNDARIES = 64
"""Up to so many are compared with every number; a binary search takes longer, because its branches are mispredicted."""


class ChunkEncoder:
    """Encodes chunks of one log: tokens by an array per block that maps codes to table rows, numbers by their bins.

    Args:
        encoder: any encoder whose fields the log has, such as that of an earlier artifact.
        log: complete; the tokens of later chunks would be unknown.
    """

    def __init__(self, encoder: FeatureEncoder, log: TokenLog) -> None:
        self.fields = encoder.fields
        self._rows: dict[str, NDArray[np.int32]] = {}
        for field in encoder.fields:
            block = field.spec.block
            if field.spec.kind == "numeric" or block in self._rows:
                continue
            index, vocabulary = log.indexes[block], encoder.vocabularies.get(block)
            rows = np.full(len(index), field.start + OOV, np.int32)
            if vocabulary is None:
                for codes in np.split(np.arange(1, len(index)), np.arange(SLICE, len(index), SLICE)):
                    rows[codes] = field.find_all(index.tokens(codes).to_list())
            else:  # most tokens of a log are rare, so the vocabulary is the shorter list
                for ids, tokens in vocabulary.slices():
                    rows[index.find(pl.Series(tokens, dtype=pl.String))] = field.start + ids
            rows[NULL] = field.start + MISSING  # written by vocabulary tokens that the log lacks
            self._rows[block] = rows

    def encode(self, chunk: TokenChunk) -> PackedRows:
        """Encode B impressions."""
        columns = [self._rows_of(field, chunk.values[field.spec.name]) for field in self.fields]
        if not chunk.lengths:
            return PackedRows(np.stack(columns, axis=1).reshape(-1), None, len(columns))
        B, F = len(next(iter(chunk.lengths.values()))), len(columns)
        lengths = np.ones((B, F), np.uint16)
        for f, field in enumerate(self.fields):
            if field.spec.name in chunk.lengths:
                lengths[:, f] = chunk.lengths[field.spec.name]
        ends = np.cumsum(lengths, dtype=np.int64).reshape(B, F)
        ids = np.empty(ends[-1, -1] if B else 0, np.int32)
        for f, column in enumerate(columns):
            # The i-th of a bag's n ids goes to position end − n + i.
            own_ends = np.cumsum(lengths[:, f], dtype=np.int64)
            ids[np.arange(len(column)) + np.repeat(ends[:, f] - own_ends, lengths[:, f])] = column
        return PackedRows(ids, lengths, F)

    def _rows_of(self, field: FieldEncoder, values: NDArray[np.generic]) -> NDArray[np.int32]:
        if field.spec.kind == "numeric":
            return _encode_numbers(field, values.view(np.float64))
        return self._rows[field.spec.block][values.view(np.uint32)]


def encode_frame(encoder: FeatureEncoder, frame: pl.DataFrame) -> EncodedBatch:
    """Encode all rows of a canonical frame; equal to ``encoder.encode`` on its values."""
    log = TokenLog(encoder.schema.features)
    log.append(Chunk(frame, {}))
    return ChunkEncoder(encoder, log).encode(next(log.drain())).unpack()


def _encode_numbers(field: FieldEncoder, numbers: NDArray[np.float64]) -> NDArray[np.int32]:
    # Does what `FieldEncoder.encode_numbers` does, in a fifth of its time.
    if len(field.boundaries) > FEW_BOUNDARIES:
        return field.encode_numbers(numbers).astype(np.int32)
    bins = np.zeros(len(numbers), np.uint8)
    for boundary in field.boundaries:
        bins += numbers >= boundary
    rows = bins.astype(np.int32) + (field.start + NUM_SPECIAL)
    rows[np.isnan(numbers)] = field.start + MISSING
    return rows
