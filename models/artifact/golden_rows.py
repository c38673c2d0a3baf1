"""Makes the golden rows of an artifact from held-out impressions, half of them with an awkward value."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.artifact.golden import Golden, columns_of
from models.features.encoder import FeatureEncoder
from models.features.field_encoder import Value, wire_value
from models.network.predictor import Predictor
from models.schema.feature_schema import FieldSpec, FittedSchema, TokenType

NUM_GOLDEN = 64
UNSEEN: Mapping[TokenType, tuple[int | str, ...]] = {
    "integer": (2**63 - 1, -1, 0),
    "boolean": (True, False, "True"),
    "string": ("", "never seen ✓ \u0000 \u202e", "x" * 256),
}
NUMBERS = (0.0, -1.0, 1e-308, 1e300, -1e300, 2**53 + 1)


def raw_rows(schema: FittedSchema, frame: pl.DataFrame) -> list[dict[str, Value]]:
    """Return a canonical frame's impressions as a client would send them."""
    rows = []
    for row in frame.select([f.name for f in schema.features.fields]).iter_rows():
        pairs = zip(schema.features.fields, schema.fitted, row, strict=True)
        rows.append({field.name: _wire(value, fitted.dtype) for field, fitted, value in pairs})
    return rows


def make_golden(
    encoder: FeatureEncoder, predictor: Predictor, table: NDArray[np.float32], frame: pl.DataFrame
) -> Golden:
    """Score `NUM_GOLDEN` impressions: half are real, half are the same with one awkward value each.

    Args:
        table: float32 [R, E+1].
        frame: held-out impressions, canonical, at least one.
    """
    at = np.linspace(0, frame.height - 1, NUM_GOLDEN // 2).astype(np.int64)
    rows = raw_rows(encoder.schema, frame[at])
    rows += [_awkward(encoder.schema, row, i) for i, row in enumerate(rows)]
    logits = predictor.score_table(encoder.encode(columns_of(encoder.schema, rows)), table)
    probabilities = predictor.probabilities(logits)
    return Golden(rows=tuple(rows), logits=tuple(logits.tolist()), probabilities=tuple(probabilities.tolist()))


def _awkward(schema: FittedSchema, row: Mapping[str, Value], i: int) -> dict[str, Value]:
    if i == 0:
        return {}
    at = i % len(schema.fitted)
    field, dtype = schema.features.fields[at], schema.fitted[at].dtype
    return {**row, field.name: _awkward_value(field, dtype, i // len(schema.fitted) + i)}


def _awkward_value(field: FieldSpec, dtype: TokenType | None, i: int) -> Value:
    if i % 4 == 3:
        return None
    if field.kind == "numeric":
        return NUMBERS[i % len(NUMBERS)]
    tokens = UNSEEN[dtype or "string"]
    if field.kind == "categorical":
        return tokens[i % len(tokens)]
    many: list[int | str] = [tokens[0]] * (field.max_length + 1 if i % 2 else 0)
    return many


def _wire(value: str | float | list[str] | None, dtype: TokenType | None) -> Value:
    if isinstance(value, list):
        return [wire_value(token, dtype) for token in value]
    if isinstance(value, str):
        return wire_value(value, dtype)
    return value
