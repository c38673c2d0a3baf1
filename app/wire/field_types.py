"""Pydantic types of requests, built from an artifact's schema, and the names of fields that it does not have."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AllowInfNan, ConfigDict, Field, Strict
from typing_extensions import TypedDict

from models.schema.feature_schema import FittedSchema, Side, TokenType

MAX_TOKEN_CHARS = 256
MAX_SEQUENCE = 1_000
MAX_UNKNOWN = 256
"""Unknown fields that are counted by name; a body may hold hundreds of thousands."""
OTHERS = "(others)"
NOT_PLAIN = "(not a plain name)"
PLAIN_NAME = re.compile(r"[\w.-]{1,64}", re.ASCII)

Integer = Annotated[int, Strict(), Field(ge=-(2**63), le=2**63 - 1)]
Text = Annotated[str, Strict(), Field(max_length=MAX_TOKEN_CHARS)]
Number = Annotated[float, Strict(), AllowInfNan(allow_inf_nan=False)]


class WireField(NamedTuple):
    """What the types depend on. Models whose fields are equal share their types, which take long to build."""

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
        # One bad token is enough to explain: 4 MB of them would take seconds and gigabytes.
        tokens = list_of(token, max_length=MAX_SEQUENCE, fail_fast=True)
        return tokens | None, f"{field.side}, tokens oldest first; the last {field.max_length} count"
    return Number | None, f"{field.side}, numeric"


def impression_type(name: str, types: Mapping[str, tuple[Any, str]]) -> Any:
    """Return the type of one impression, or of one side of it: any field may be absent, and unknown fields are allowed."""
    return typed_dict(name, {n: Annotated[t, Field(description=text)] for n, (t, text) in types.items()}, extra="allow")


def list_of(item: Any, **limits: Any) -> Any:
    """Return the type of a list of ``item``; ``limits`` are arguments of `pydantic.Field`."""
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


def count_unknown(rows: Iterable[Mapping[str, Any]], names: Collection[str]) -> dict[str, int]:
    """Return how many rows have each field that is not in ``names``, by a printable form of its name.

    Plain names beyond the first `MAX_UNKNOWN` are counted together.
    """
    counts: dict[str, int] = {}
    for row in rows:
        for name in row:
            if name in names:
                continue
            shown = printable(name)
            if shown not in counts and shown != NOT_PLAIN and len(counts.keys() - {NOT_PLAIN, OTHERS}) == MAX_UNKNOWN:
                shown = OTHERS
            counts[shown] = counts.get(shown, 0) + 1
    return counts


def printable(name: str) -> str:
    """Return a field's name if it is safe to show: anything but a plain name could harm whoever displays it."""
    return name if PLAIN_NAME.fullmatch(name) else NOT_PLAIN
