"""Golden rows: raw impressions with the trainer's answers, scored again at each load of the artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from models.features.field_encoder import Value
from models.schema.feature_schema import FittedSchema, Strict


class Golden(Strict):
    """``golden.json``: impressions as a client sends them, and the logit and probability of each."""

    rows: tuple[Mapping[str, int | float | str | tuple[int | str, ...] | None], ...]
    logits: tuple[float, ...]
    probabilities: tuple[float, ...]


def columns_of(schema: FittedSchema, rows: Sequence[Mapping[str, Value]]) -> list[list[Value]]:
    """Turn rows into one list of values for each field of the schema; an absent field is ``None``."""
    return [[row.get(field.name) for row in rows] for field in schema.features.fields]
