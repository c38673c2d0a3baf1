"""Golden rows: raw impressions with the trainer's answers, scored again at each load of the artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

from models.features.field_encoder import Value
from models.schema.feature_schema import FittedSchema, Strict


class Golden(Strict):
    """``golden.json``: impressions as a client sends them, and the logit and probability of each."""

    rows: tuple[Mapping[str, bool | int | float | str | tuple[bool | int | str, ...] | None], ...]
    logits: tuple[float, ...]
    probabilities: tuple[float, ...]

    def without_empty_texts(self) -> Self:
        """Return the rows that mean the same in every format version."""
        kept = [i for i, row in enumerate(self.rows) if not any(v == "" or v == ("",) for v in row.values())]
        parts = ([column[i] for i in kept] for column in (self.rows, self.logits, self.probabilities))
        rows, logits, probabilities = map(tuple, parts)
        return self.model_copy(update={"rows": rows, "logits": logits, "probabilities": probabilities})


def columns_of(schema: FittedSchema, rows: Sequence[Mapping[str, Value]]) -> list[list[Value]]:
    """Turn rows into one list of values for each field of the schema; an absent field is ``None``."""
    return [[row.get(field.name) for row in rows] for field in schema.features.fields]
