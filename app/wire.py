"""Bytes of a request → columns of values, checked by pydantic-core against types built from the artifact's schema.

One `Wire` belongs to one artifact. It also holds what ``/docs`` shows: the JSON schemas and a working example.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AllowInfNan, ConfigDict, Field, Strict, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from app.errors import Problem
from models.encoding import Value
from models.schema import FieldSpec, FittedField, FittedSchema

MAX_TOKEN_CHARS = 256
MAX_SEQUENCE = 1_000
MAX_ERRORS = 16
PLAIN_NAME = re.compile(r"[\w.-]{1,64}", re.ASCII)

Integer = Annotated[int, Strict(), Field(ge=-(2**63), le=2**63 - 1)]
Text = Annotated[str, Strict(), Field(max_length=MAX_TOKEN_CHARS)]
Number = Annotated[float, Strict(), AllowInfNan(allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class Columns:
    """A checked request: values by field in the schema's order, each a list of B, and the names that are no fields."""

    values: list[Sequence[Value]]
    num_rows: int
    unknown_fields: Mapping[str, int]
    """Rows that carry the field, by a printable form of its name."""


class Wire:
    """Parses the bodies of requests for one artifact.

    Args:
        schema: the artifact's.
        max_rows: most rows in one request.
    """

    def __init__(self, schema: FittedSchema, max_rows: int) -> None:
        self._fields = schema.features.fields
        self._names = {f.name: None for f in self._fields}
        types = {f.name: _type(f, fit) for f, fit in zip(self._fields, schema.fitted, strict=True)}
        fields = {name: Annotated[t | None, Field(description=text)] for name, (t, text) in types.items()}
        impression = _typed_dict("Impression", fields, extra="allow")
        rows = _list_of(impression, min_length=1, max_length=max_rows, description="Impressions, one object each")
        lists = {n: _list_of(t | None, min_length=1, max_length=max_rows, description=d) for n, (t, d) in types.items()}
        columns = _typed_dict("ImpressionColumns", lists, extra="allow")
        self._request: TypeAdapter[dict[str, Any]] = TypeAdapter(
            _typed_dict("PredictRequest", {"instances": rows, "inputs": columns}, extra="forbid")
        )
        self.example = {
            f.name: list(fit.example) if isinstance(fit.example, tuple) else fit.example
            for f, fit in zip(self._fields, schema.fitted, strict=True)
        }

    def parse(self, body: bytes | bytearray) -> Columns:
        """Validate a ``/predict`` body.

        Raises:
            Problem: ``invalid_input``, naming rows and fields, at most `MAX_ERRORS` of them.
        """
        try:
            request = self._request.validate_json(body)
        except ValidationError as error:
            raise self._problem(error) from None
        if len(request) != 1:
            raise Problem("invalid_input", "give either 'instances' or 'inputs'")
        if "instances" in request:
            return self._from_rows(request["instances"])
        return self._from_columns(request["inputs"])

    def _from_rows(self, rows: list[dict[str, Any]]) -> Columns:
        unknown: dict[str, int] = {}
        for row in rows:
            if not row.keys() <= self._names.keys():
                for name in row.keys() - self._names.keys():
                    shown = _printable(name)
                    unknown[shown] = unknown.get(shown, 0) + 1
        return Columns([[row.get(name) for row in rows] for name in self._names], len(rows), unknown)

    def _from_columns(self, columns: dict[str, Any]) -> Columns:
        known = [values for name, values in columns.items() if name in self._names]
        lengths = {len(values) for values in known}
        if len(lengths) != 1:
            raise Problem(
                "invalid_input",
                "give at least one field of the schema"
                if not known
                else "all columns of 'inputs' must have the same length",
            )
        num_rows = lengths.pop()
        absent = [None] * num_rows
        unknown = {_printable(name): num_rows for name in columns.keys() - self._names.keys()}
        return Columns([columns.get(name, absent) for name in self._names], num_rows, unknown)

    def _problem(self, error: ValidationError) -> Problem:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        return Problem(
            "invalid_input", errors=[self._fault(fault["loc"], fault["msg"]) for fault in faults[:MAX_ERRORS]]
        )

    def _fault(self, loc: tuple[int | str, ...], message: str) -> dict[str, Any]:
        fault: dict[str, Any] = {"message": message}
        if len(loc) > 1 and loc[0] == "instances":
            fault["row"] = loc[1]
            if len(loc) > 2 and loc[2] in self._names:
                fault["field"] = loc[2]
        elif len(loc) > 1 and loc[0] == "inputs" and loc[1] in self._names:
            fault["field"] = loc[1]
            if len(loc) > 2:
                fault["row"] = loc[2]
        elif loc and loc[0] in ("instances", "inputs"):
            fault["field"] = loc[0]
        return fault

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON schema of a request, with its definitions under ``#/components/schemas/``."""
        return self._request.json_schema(ref_template="#/components/schemas/{model}")


def _type(field: FieldSpec, fitted: FittedField) -> tuple[Any, str]:
    token = Integer if fitted.dtype == "integer" else Text
    if field.kind == "categorical":
        return token, f"{field.side}, categorical"
    if field.kind == "sequence":
        tokens = _list_of(token, max_length=MAX_SEQUENCE)
        return tokens, f"{field.side}, tokens oldest first; the last {field.max_length} count"
    return Number, f"{field.side}, numeric"


def _list_of(item: Any, **limits: Any) -> Any:
    return Annotated[list[item], Field(**limits)]


def _typed_dict(name: str, fields: Mapping[str, Any], extra: str) -> Any:
    typed = TypedDict(name, dict(fields), total=False)  # type: ignore[misc]  # noqa: UP013  # the fields are known at run time only
    typed.__pydantic_config__ = ConfigDict(extra=extra)  # type: ignore[attr-defined, typeddict-item]
    return typed


def _printable(name: str) -> str:
    return name if PLAIN_NAME.fullmatch(name) else "(not a plain name)"
