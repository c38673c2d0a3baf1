"""Bytes of ``/rank`` and ``/catalog`` requests → encoded sides of impressions, and items of a catalog.

A candidate's field may stand in the context: all candidates that lack it have its value. A field of the context is refused in a
candidate. So no field of the model is ignored.

Who decides what is right, and the few differences between the two readers, are those of `app.wire.predict_request`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, TypeAdapter
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from app.problems import Problem
from app.wire.field_types import (
    Text,
    WireField,
    count_unknown,
    example_of,
    field_types,
    impression_type,
    list_of,
    typed_dict,
    wire_fields,
)
from app.wire.predict_request import columns_of
from app.wire.refusals import refuse, validated
from models.features.encoder import EncodedBatch, Encoder, FeatureEncoder
from models.features.field_encoder import FieldEncoder, Value
from models.features.request_reader import IS_COMPILED, Fault, Limits, RankReader, RankReading, add_counts, keep_cpu
from models.features.token_spelling import MAX_TOKEN_CHARS
from models.features.vocabulary import MISSING
from models.schema.feature_schema import FittedSchema

Type = TypeAdapter[dict[str, Any]]
NOT_SHARED = "is a field of the candidates, and those of 'candidate_ids' have theirs from the catalog"
ABOUT_CONTEXT = "The user, the page, the moment; and fields that all candidates share which do not have their own"
HIDDEN: Any = SkipJsonSchema
"""``HIDDEN[T]`` is T, but ``/docs`` does not show it."""


def _refuse_misplaced(_: Any) -> Any:
    raise PydanticCustomError("misplaced", "is a field of the context, which all candidates share")


MISPLACED = HIDDEN[Annotated[Any, BeforeValidator(_refuse_misplaced)]]
"""The type of a field of the context in a candidate."""


@lru_cache(maxsize=4)
def rank_types(fields: tuple[WireField, ...], max_rows: int) -> tuple[Type, Type]:
    """Return the types of a ``/rank`` request and of a catalog; models with the same fields share them."""
    sides = {side: field_types(f for f in fields if f.side == side) for side in ("context", "candidate")}
    times = {field.name for field in fields if field.kind == "time"}
    shared = {name: (HIDDEN[t], text) for name, (t, text) in sides["candidate"].items() if name not in times}
    misplaced = {name: (MISPLACED, text) for name, (_, text) in sides["context"].items() if name not in times}
    context = impression_type("Context", sides["context"] | shared)
    candidate = impression_type("Candidate", sides["candidate"] | misplaced)
    limits = {"min_length": 1, "max_length": max_rows}
    top_k = Field(strict=True, ge=1, le=2**63 - 1, description="Return only so many, the best; default all")
    parts = {
        "context": Annotated[context, Field(description=ABOUT_CONTEXT)],
        "candidates": list_of(candidate, **limits, description="Candidates by their fields"),
        "candidate_ids": list_of(Text, **limits, description="Candidates by their ids in the catalog"),
        "top_k": Annotated[int, top_k],
    }
    items = {"items": Annotated[dict[Text, candidate], Field(description="Candidates' fields by id")]}  # type: ignore[valid-type]
    return (
        TypeAdapter(typed_dict("RankRequest", parts, extra="forbid")),
        TypeAdapter(typed_dict("Catalog", items, extra="forbid")),
    )


class RankWire:
    """Reads the bodies of ``/rank`` and ``/catalog`` for one artifact.

    Args:
        schema: the artifact's.
        encoder: the artifact's.
        max_rows: most candidates in one request.
        yield_cpu: called after each piece of work of less than a millisecond.
    """

    def __init__(
        self, schema: FittedSchema, encoder: FeatureEncoder, max_rows: int, yield_cpu: Callable[[], None] = keep_cpu
    ) -> None:
        fields = wire_fields(schema)
        self._names = [field.name for field in fields]
        self._context = encoder.side("context")
        self._candidate = encoder.side("candidate")
        self._type, self._catalog_type = rank_types(fields, max_rows)
        limits = Limits(max_rows, MAX_TOKEN_CHARS)
        self._reader = RankReader(encoder, limits, yield_cpu) if IS_COMPILED else None
        example = example_of(schema)
        context, candidate = ({name: example[name] for name in side.names} for side in (self._context, self._candidate))
        self.example = {"context": context, "candidates": [candidate, {}], "top_k": 1}

    def read(self, body: bytes) -> RankReading:
        """Read a ``/rank`` body.

        Raises:
            Problem: ``invalid_input``; ``not_rankable`` when the schema has no candidate fields.
        """
        if not self._candidate.fields:
            raise Problem("not_rankable")
        if self._reader is None:
            return self.read_with_pydantic(body)
        found = self._reader.read(body)
        if isinstance(found, Fault):
            refuse(body, found, self._type, self._names)
        return found

    def read_with_pydantic(self, body: bytes) -> RankReading:
        """Do what `read` does without the compiled reader.

        Raises:
            Problem: ``invalid_input``.
        """
        request = validated(self._type, body, self._names)
        ids = request.get("candidate_ids")
        if ("candidates" in request) == (ids is not None):
            raise Problem("invalid_input", "give either 'candidates' or 'candidate_ids'")
        given, rows = request.get("context", {}), request.get("candidates", [])
        columns = columns_of(self._candidate, rows)
        for field, values, (shared,) in zip(
            self._candidate.fields, columns, columns_of(self._candidate, [given]), strict=True
        ):
            if _is_missing(field, [shared])[0]:
                continue
            if ids is not None:
                raise Problem("invalid_input", errors=[{"message": NOT_SHARED, "field": field.spec.name}])
            for i in _is_missing(field, values).nonzero()[0].tolist():
                values[i] = shared
        context, missing, unseen = _encode(self._context, columns_of(self._context, [given]))
        candidates, more_missing, more_unseen = _encode(self._candidate, columns if rows else [])
        return RankReading(
            context,
            candidates,
            ids,
            request.get("top_k"),
            add_counts(missing, more_missing),
            add_counts(unseen, more_unseen),
            add_counts(self._unknown(self._context, [given]), self._unknown(self._candidate, rows)),
        )

    def _unknown(self, side: Encoder, rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
        return count_unknown(rows, {*self._context.names, *self._candidate.names, *side.derivation.sources})

    def parse_catalog(self, body: bytes) -> dict[str, dict[str, Any]]:
        """Validate a catalog: ``{"items": {id: {field: value}}}``; return the items.

        Raises:
            Problem: ``invalid_input``; ``not_rankable``.
        """
        if not self._candidate.fields:
            raise Problem("not_rankable")
        items: dict[str, dict[str, Any]] | None = validated(self._catalog_type, body, self._names).get("items")
        if items is None:
            raise Problem("invalid_input", "give 'items'")
        return items

    def candidate_columns(self, rows: Sequence[Mapping[str, Any]]) -> list[list[Value]]:
        """Return candidates by column, in the order of the candidate fields."""
        return columns_of(self._candidate, rows)

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON schema of a ``/rank`` request, with its definitions under ``#/components/schemas/``."""
        return self._type.json_schema(ref_template="#/components/schemas/{model}")


def _is_missing(field: FieldEncoder, values: Sequence[Value]) -> NDArray[np.bool_]:
    column = field.encode(values)
    lengths = column.lengths
    first = column.ids if lengths is None else column.ids[np.cumsum(lengths, dtype=np.int64) - lengths]
    missing: NDArray[np.bool_] = first == field.start + MISSING
    return missing


def _encode(
    side: Encoder, columns: Sequence[Sequence[Value]]
) -> tuple[EncodedBatch | None, Mapping[str, int], Mapping[str, int]]:
    if not columns:
        return None, {}, {}
    batch = side.encode(columns)
    return batch, *side.name_special(batch)
