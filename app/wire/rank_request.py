"""Bytes of ``/rank`` and ``/catalog`` requests → checked values; the two sides of an impression apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

from msgspec import UNSET, Meta
from pydantic import Field, TypeAdapter, ValidationError

from app.problems import Problem
from app.wire.field_types import (
    Text,
    WireField,
    count_unknown,
    example_of,
    field_types,
    impression_type,
    invalid_input,
    list_of,
    typed_dict,
    wire_fields,
)
from app.wire.quick_reading import (
    ANY_ROW,
    FieldValues,
    QuickReader,
    read,
    row_struct,
)
from app.wire.quick_reading import Text as QuickText
from app.wire.quick_reading import list_of as msgspec_list
from models.features.field_encoder import Value
from models.schema.feature_schema import FittedSchema

ONE_OF_BOTH = "give either 'candidates' or 'candidate_ids'"


@dataclass(frozen=True, slots=True)
class RankRequest:
    """A checked request: one context, and candidates either by their fields or by their ids in the catalog."""

    context: list[Sequence[Value]]
    candidates: list[Sequence[Value]] | None
    candidate_ids: list[str] | None
    top_k: int | None
    unknown_fields: Mapping[str, int]


@lru_cache(maxsize=4)
def rank_types(
    fields: tuple[WireField, ...], max_rows: int
) -> tuple[TypeAdapter[dict[str, Any]], TypeAdapter[dict[str, Any]]]:
    """Return the types of a ``/rank`` request and of a catalog; models with the same fields share them."""
    context = impression_type("Context", field_types(f for f in fields if f.side == "context"))
    candidate = impression_type("Candidate", field_types(f for f in fields if f.side == "candidate"))
    limits = {"min_length": 1, "max_length": max_rows}
    parts = {
        "context": Annotated[context, Field(description="The user, the page, the moment")],
        "candidates": list_of(candidate, **limits, description="Candidates by their fields"),
        "candidate_ids": list_of(Text, **limits, description="Candidates by their ids in the catalog"),
        "top_k": Annotated[int, Field(strict=True, ge=1, description="Return only so many, the best; default all")],
    }
    items = {"items": Annotated[dict[Text, candidate], Field(description="Candidates' fields by id")]}  # type: ignore[valid-type]
    return (
        TypeAdapter(typed_dict("RankRequest", parts, extra="forbid")),
        TypeAdapter(typed_dict("Catalog", items, extra="forbid")),
    )


@lru_cache(maxsize=4)
def quick_reader(fields: tuple[WireField, ...], max_rows: int) -> QuickReader:
    """Return the reader of large ``/rank`` requests; models with the same fields share it."""
    context, candidate = ([f for f in fields if f.side == side] for side in ("context", "candidate"))
    return QuickReader(
        lambda is_strict: {
            "context": row_struct(context, is_strict),
            "candidates": msgspec_list(row_struct(candidate, is_strict), max_rows),
            "candidate_ids": msgspec_list(QuickText, max_rows),
            "top_k": Annotated[int, Meta(ge=1)],
        },
        {"context": ANY_ROW, "candidates": msgspec_list(ANY_ROW, max_rows)},
        "candidates",
        max_rows,
    )


class RankWire:
    """Parses the bodies of ``/rank`` and ``/catalog`` for one artifact.

    Args:
        schema: the artifact's.
        max_rows: most candidates in one request.
    """

    def __init__(self, schema: FittedSchema, max_rows: int) -> None:
        fields = wire_fields(schema)
        self._names = dict.fromkeys(field.name for field in fields)
        self._context = [field.name for field in fields if field.side == "context"]
        self._candidate = [field.name for field in fields if field.side == "candidate"]
        self._request, self._catalog = rank_types(fields, max_rows)
        self._quick = quick_reader(fields, max_rows)
        self._values = {s: FieldValues([f for f in fields if f.side == s]) for s in ("context", "candidate")}
        example = example_of(schema)
        candidates = [{name: example[name] for name in self._candidate}, {}]
        self.example = {"context": {n: example[n] for n in self._context}, "candidates": candidates, "top_k": 1}

    def parse(self, body: bytes) -> RankRequest:
        """Validate a ``/rank`` body.

        Raises:
            Problem: ``invalid_input``; ``not_rankable`` when the schema has no candidate fields.
        """
        if not self._candidate:
            raise Problem("not_rankable")
        return read(body, self.read_quickly, self.validate, self._names)

    def read_quickly(self, body: bytes) -> RankRequest:
        """Do what `parse` does by msgspec alone.

        Raises:
            Problem: ``invalid_input``.
            FAULTS: the body does not fit.
        """
        request, everything = self._quick.read(body)
        given = {name for name in ("context", "candidates", "candidate_ids") if getattr(request, name) is not UNSET}
        if ("candidates" in given) == ("candidate_ids" in given):
            raise Problem("invalid_input", ONE_OF_BOTH)
        contexts = [request.context] if "context" in given else []
        unknown = {}
        if everything is not None:
            named = [everything.context] if contexts else []
            unknown = self._count_unknown(named, everything.candidates if "candidates" in given else [])
        return RankRequest(
            self._values["context"].of_rows(contexts) if contexts else [[None] for _ in self._context],
            self._values["candidate"].of_rows(request.candidates) if "candidates" in given else None,
            request.candidate_ids if "candidate_ids" in given else None,
            None if request.top_k is UNSET else request.top_k,
            unknown,
        )

    def validate(self, body: bytes) -> RankRequest:
        """Do what `parse` does by pydantic-core alone.

        Raises:
            Problem: ``invalid_input``.
        """
        try:
            request = self._request.validate_json(body)
        except ValidationError as error:
            raise invalid_input(error, self._names) from None
        context, rows, ids = request.get("context", {}), request.get("candidates"), request.get("candidate_ids")
        if (rows is None) == (ids is None):
            raise Problem("invalid_input", ONE_OF_BOTH)
        unknown = self._count_unknown([context], rows or [])
        return RankRequest(
            [[context.get(name)] for name in self._context],
            None if rows is None else self.candidate_columns(rows),
            ids,
            request.get("top_k"),
            unknown,
        )

    def _count_unknown(
        self, contexts: Sequence[Mapping[str, Any]], candidates: Sequence[Mapping[str, Any]]
    ) -> dict[str, int]:
        unknown = Counter(count_unknown(contexts, dict.fromkeys(self._context)))
        unknown.update(count_unknown(candidates, dict.fromkeys(self._candidate)))
        return dict(unknown)

    def parse_catalog(self, body: bytes) -> dict[str, dict[str, Any]]:
        """Validate a catalog: ``{"items": {id: {field: value}}}``; returns the items.

        Raises:
            Problem: ``invalid_input``; ``not_rankable``.
        """
        if not self._candidate:
            raise Problem("not_rankable")
        try:
            catalog = self._catalog.validate_json(body)
        except ValidationError as error:
            raise invalid_input(error, self._names) from None
        items: dict[str, dict[str, Any]] | None = catalog.get("items")
        if items is None:
            raise Problem("invalid_input", "give 'items'")
        return items

    def candidate_columns(self, rows: Sequence[Mapping[str, Any]]) -> list[Sequence[Value]]:
        """Return candidates by column, in the order of the candidate fields."""
        return [[row.get(name) for row in rows] for name in self._candidate]

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON schema of a ``/rank`` request, with its definitions under ``#/components/schemas/``."""
        return self._request.json_schema(ref_template="#/components/schemas/{model}")
