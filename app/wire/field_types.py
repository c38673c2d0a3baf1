"""Pydantic types of requests, built from an artifact's schema, and the names of fields that it does not have."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import ConfigDict, Field, PlainValidator, Strict, WithJsonSchema
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from app.wire.values import read_number, read_sequence, read_time, read_token
from models.features.token_spelling import MAX_TOKEN_CHARS
from models.schema.feature_schema import FittedSchema, Side, TokenType

MAX_UNKNOWN = 256
"""Unknown fields that are counted by name; a body may hold hundreds of thousands."""
OTHERS = "(others)"
NOT_PLAIN = "(not a plain name)"
PLAIN_NAME = re.compile(r"[\w.-]{1,64}", re.ASCII)

Text = Annotated[str, Strict(), Field(max_length=MAX_TOKEN_CHARS)]
JsonSchema = dict[str, Any]
INTEGER_TEXT: JsonSchema = {"type": "string", "pattern": r"^(-?(0|[1-9][0-9]*)(\.0+)?)?$"}
NUMBER_TEXT: JsonSchema = {
    "type": "string",
    "pattern": r"^([+-]?([0-9]{1,20}(\.[0-9]{0,20})?|\.[0-9]{1,20})([eE][+-]?[0-9]{1,2})?)?$",
}
ANY_SCALAR: list[JsonSchema] = [{"type": "string"}, {"type": "number"}, {"type": "boolean"}]
TOKENS: Mapping[TokenType, list[JsonSchema]] = {
    "integer": [{"type": "integer"}, INTEGER_TEXT],
    "boolean": [{"type": "boolean"}, {"enum": [0, 1, "true", "false", ""]}],
    "string": ANY_SCALAR,
}
"""What is a token of each type; a text says the same as the value that it spells."""


class WireField(NamedTuple):
    """What the types depend on. Models whose fields are equal share their types, which take long to build."""

    name: str
    kind: Literal["categorical", "numeric", "sequence", "time"]
    side: Side
    dtype: TokenType | None
    max_length: int
    separator: str
    nulls: tuple[str, ...] = ()


def wire_fields(schema: FittedSchema) -> tuple[WireField, ...]:
    """Return what a request can have: the fields of a schema in its order, then the times that fields derive from."""
    features = schema.features
    log = features.log.list_separator, features.log.null_values
    pairs = zip(features.fields, schema.fitted, strict=True)
    fields = [WireField(f.name, f.kind, f.side, fitted.dtype, f.max_length, *log) for f, fitted in pairs]
    own = {f.name for f in features.fields}
    sources = [c for c in (features.split.column, features.split.clock) if c and c not in own]
    sides = dict.fromkeys(f.side for f in features.fields if f.derived)
    return (*fields, *(WireField(name, "time", side, None, 0, *log) for side in sides for name in sources))


def field_types(fields: Iterable[WireField]) -> dict[str, tuple[Any, str]]:
    """Return each field's type on the wire and its description, by name; a null is always allowed."""
    return {field.name: _type(field) for field in fields}


def _type(field: WireField) -> tuple[Any, str]:
    dtype, separator, nulls = field.dtype or "string", field.separator, field.nulls
    tokens = TOKENS[dtype]
    if field.kind == "categorical":
        return _read(lambda value: read_token(value, dtype), tokens, nulls), f"{field.side}, categorical"
    if field.kind == "sequence":
        items = {"type": "array", "items": {"anyOf": [*tokens, {"type": "null"}]}}
        text = f"{field.side}, tokens oldest first, or one text with {separator!r} between them; the last {field.max_length} count"
        return _read(lambda value: read_sequence(value, dtype, separator), [items], nulls), text
    if field.kind == "time":
        text = f"{field.side}, the time that other fields derive from, written as in the log"
        return _read(read_time, [{"type": "string"}, {"type": "number"}], nulls), text
    return _read(read_number, [{"type": "number"}, {"type": "boolean"}, NUMBER_TEXT], nulls), f"{field.side}, numeric"


def _read(read: Callable[[Any], Any], any_of: list[JsonSchema], nulls: tuple[str, ...]) -> Any:
    if nulls:
        any_of = [*any_of, {"enum": list(nulls)}]

    def check(value: Any) -> Any:
        if isinstance(value, str) and value in nulls:
            return None
        try:
            return read(value)
        except ValueError as error:
            raise PydanticCustomError("value", "{expected}", {"expected": str(error)}) from None

    return Annotated[Any, PlainValidator(check), WithJsonSchema({"anyOf": [*any_of, {"type": "null"}]})]


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
