"""Types of the wire, built from an artifact's schema, and how a fault found by pydantic-core is told without the input."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AllowInfNan, ConfigDict, Field, Strict, ValidationError
from typing_extensions import TypedDict

from app.problems import Problem
from models.schema.feature_schema import FittedSchema, Side, TokenType

MAX_TOKEN_CHARS = 256
MAX_SEQUENCE = 1_000
MAX_ERRORS = 16
MAX_FAULTS = 10_000
"""A body with more is refused without naming any: to list them takes pydantic many times as long as to find them."""
MAX_UNKNOWN = 256
"""Unknown fields that are told apart; a body may hold hundreds of thousands."""
OTHERS = "(others)"
PLAIN_NAME = re.compile(r"[\w.-]{1,64}", re.ASCII)
# Parts of a request whose members are counted as rows.
ROWS = {"instances", "inputs", "candidates", "candidate_ids"}

Integer = Annotated[int, Strict(), Field(ge=-(2**63), le=2**63 - 1)]
Text = Annotated[str, Strict(), Field(max_length=MAX_TOKEN_CHARS)]
Number = Annotated[float, Strict(), AllowInfNan(allow_inf_nan=False)]


class WireField(NamedTuple):
    """What the wire must know of a field. Models with equal ones share their types, which take long to make."""

    name: str
    kind: Literal["categorical", "numeric", "sequence"]
    side: Side
    dtype: TokenType | None
    max_length: int


def wire_fields(schema: FittedSchema) -> tuple[WireField, ...]:
    """Return the fields of a schema, in its order."""
    pairs = zip(schema.features.fields, schema.fitted, strict=True)
    return tuple(WireField(f.name, f.kind, f.side, fitted.dtype, f.max_length) for f, fitted in pairs)


def field_types(fields: Iterable[WireField]) -> dict[str, tuple[Any, str]]:
    """Return each field's type on the wire and its description, by name; a null is always allowed."""
    return {field.name: _type(field) for field in fields}


def _type(field: WireField) -> tuple[Any, str]:
    token = Integer if field.dtype == "integer" else Text
    if field.kind == "categorical":
        return token | None, f"{field.side}, categorical"
    if field.kind == "sequence":
        # The first bad token tells enough: 4 MB of bad ones would take seconds and gigabytes.
        tokens = list_of(token, max_length=MAX_SEQUENCE, fail_fast=True)
        return tokens | None, f"{field.side}, tokens oldest first; the last {field.max_length} count"
    return Number | None, f"{field.side}, numeric"


def impression_type(name: str, types: Mapping[str, tuple[Any, str]]) -> Any:
    """Return the type of one impression, or one side of it: every field may be absent, others are let through."""
    return typed_dict(name, {n: Annotated[t, Field(description=text)] for n, (t, text) in types.items()}, extra="allow")


def list_of(item: Any, **limits: Any) -> Any:
    """Return the type of a list of ``item`` with pydantic's limits."""
    return Annotated[list[item], Field(**limits)]


def typed_dict(name: str, fields: Mapping[str, Any], extra: str) -> Any:
    """Return the type of a dictionary with some of the ``fields``, and with others as ``extra`` says."""
    typed = TypedDict(name, dict(fields), total=False)  # type: ignore[misc]  # noqa: UP013  # the fields are known at run time only
    typed.__pydantic_config__ = ConfigDict(extra=extra)  # type: ignore[attr-defined, typeddict-item]
    return typed


def example_of(schema: FittedSchema) -> dict[str, Any]:
    """Return an impression with a frequent value in each field."""
    pairs = zip(schema.features.fields, schema.fitted, strict=True)
    return {f.name: list(fit.example) if isinstance(fit.example, tuple) else fit.example for f, fit in pairs}


def count_unknown(rows: Iterable[Mapping[str, Any]], names: Mapping[str, Any], weight: int = 1) -> dict[str, int]:
    """Return how many rows carry each field that is none, by a printable form of its name; the first few by name.

    Args:
        rows: fields by name.
        names: of the model's fields.
        weight: how many rows each of ``rows`` stands for.
    """
    known, unknown = names.keys(), dict[str, int]()
    for row in rows:
        if not row.keys() <= known:
            others = row.keys() - known
            while others and len(unknown) < MAX_UNKNOWN:
                shown = printable(others.pop())
                unknown[shown] = unknown.get(shown, 0) + weight
            if others:  # of 4 MB of names: one by one they would take a tenth of a second
                unknown[OTHERS] = unknown.get(OTHERS, 0) + weight * len(others)
    return unknown


def printable(name: str) -> str:
    """Return a field's name if it is a plain one; anything else could be made to harm whoever shows it."""
    return name if PLAIN_NAME.fullmatch(name) else "(not a plain name)"


def invalid_input(error: ValidationError, names: Mapping[str, Any]) -> Problem:
    """Return the refusal of a body, which names rows and the model's own fields."""
    if error.error_count() > MAX_FAULTS:
        return Problem("invalid_input", f"more than {MAX_FAULTS} faults")
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    return Problem("invalid_input", errors=[_fault(f["loc"], f["msg"], names) for f in faults[:MAX_ERRORS]])


def _fault(loc: tuple[int | str, ...], message: str, names: Mapping[str, Any]) -> dict[str, Any]:
    fault: dict[str, Any] = {"message": message}
    if not loc:
        return fault
    row = next((part for part in loc[1:] if isinstance(part, int)), None)
    field = next((part for part in loc[1:] if part in names), None)
    if row is not None and loc[0] in ROWS:
        fault["row"] = row
    if field is not None:
        fault["field"] = field
    elif loc[0] in ROWS or loc[0] in ("context", "top_k"):
        fault["field"] = loc[0]
    return fault
