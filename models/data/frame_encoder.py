"""Encodes frames of impressions with an artifact's encoder, some rows at a time, as requests with these values would be."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.features.encoder import FeatureEncoder
from models.features.field_encoder import Column, FieldEncoder
from models.features.packed_rows import PackedRows
from models.features.vocabulary import IS_COMPILED


class FrameEncoder:
    """Encodes canonical columns (see `models.data.impressions`); unlike a `ChunkEncoder` it needs no more of the log.

    Tokens are looked up as those of requests are, without a Python object for each.

    Args:
        encoder: the artifact's.
    """

    def __init__(self, encoder: FeatureEncoder) -> None:
        self.fields = encoder.fields

    def encode(self, columns: Mapping[str, pl.Series]) -> PackedRows:
        """Encode B impressions, given by the name of the field."""
        return PackedRows.of([_encode(field, columns[field.spec.name]) for field in self.fields])


def _encode(field: FieldEncoder, values: pl.Series) -> Column:
    if field.spec.kind == "numeric":
        return Column(field.encode_numbers(values.to_numpy()).astype(np.int32))
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
