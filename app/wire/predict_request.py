"""Bytes of a ``/predict`` request → checked columns of values: by pydantic-core straight from JSON, many rows by msgspec.

One `Wire` belongs to one artifact. It also holds what ``/docs`` shows: the JSON schema and a working example.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from msgspec import UNSET
from pydantic import TypeAdapter, ValidationError

from app.problems import Problem
from app.wire.field_types import (
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
    column_struct,
    one_length,
    read,
    row_struct,
)
from app.wire.quick_reading import list_of as msgspec_list
from models.features.field_encoder import Value
from models.schema.feature_schema import FittedSchema

ONE_OF_BOTH = "give either 'instances' or 'inputs'"


@dataclass(frozen=True, slots=True)
class Columns:
    """A checked request: values by field in the schema's order, each a list of B, and the names that are no fields."""

    values: Sequence[Sequence[Value]]
    num_rows: int
    unknown_fields: Mapping[str, int]
    """Rows that carry the field, by a printable form of its name."""


@lru_cache(maxsize=4)
def request_type(fields: tuple[WireField, ...], max_rows: int) -> TypeAdapter[dict[str, Any]]:
    """Return the type of a ``/predict`` request; models with the same fields share it."""
    types = field_types(fields)
    limits = {"min_length": 1, "max_length": max_rows}
    rows = list_of(impression_type("Impression", types), **limits, description="Impressions, one object each")
    # The first bad value of a column tells enough: 4 MB of bad ones would take seconds.
    lists = {name: list_of(t, **limits, description=text, fail_fast=True) for name, (t, text) in types.items()}
    columns = typed_dict("ImpressionColumns", lists, extra="allow")
    return TypeAdapter(typed_dict("PredictRequest", {"instances": rows, "inputs": columns}, extra="forbid"))


@lru_cache(maxsize=4)
def quick_reader(fields: tuple[WireField, ...], max_rows: int) -> QuickReader:
    """Return the reader of large ``/predict`` requests; models with the same fields share it."""
    return QuickReader(
        lambda is_strict: {
            "instances": msgspec_list(row_struct(fields, is_strict), max_rows),
            "inputs": column_struct(fields, is_strict, max_rows),
        },
        {"instances": msgspec_list(ANY_ROW, max_rows), "inputs": ANY_ROW},
        "instances",
        max_rows,
    )


class Wire:
    """Parses the bodies of ``/predict`` for one artifact.

    Args:
        schema: the artifact's.
        max_rows: most rows in one request.
    """

    def __init__(self, schema: FittedSchema, max_rows: int) -> None:
        self._names = dict.fromkeys(field.name for field in schema.features.fields)
        fields = wire_fields(schema)
        self._request = request_type(fields, max_rows)
        self._quick = quick_reader(fields, max_rows)
        self._field_values = FieldValues(fields)
        self.example = {"instances": [example_of(schema)]}

    def parse(self, body: bytes | bytearray) -> Columns:
        """Validate a ``/predict`` body.

        Raises:
            Problem: ``invalid_input``, naming rows and fields, the first few of them.
        """
        return read(body, self.read_quickly, self.validate, self._names)

    def read_quickly(self, body: bytes | bytearray) -> Columns:
        """Do what `parse` does by msgspec alone.

        Raises:
            Problem: ``invalid_input``.
            FAULTS: the body does not fit.
        """
        request, everything = self._quick.read(body)
        if (request.instances is UNSET) == (request.inputs is UNSET):
            raise Problem("invalid_input", ONE_OF_BOTH)
        if request.instances is UNSET:
            values, num_rows = self._field_values.of_columns(request.inputs)
            unknown = {} if everything is None else count_unknown([everything.inputs], self._names, num_rows)
            return Columns(values, num_rows, unknown)
        rows = request.instances
        unknown = {} if everything is None else count_unknown(everything.instances, self._names)
        return Columns(self._field_values.of_rows(rows), len(rows), unknown)

    def validate(self, body: bytes | bytearray) -> Columns:
        """Do what `parse` does by pydantic-core alone.

        Raises:
            Problem: ``invalid_input``.
        """
        try:
            request = self._request.validate_json(body)
        except ValidationError as error:
            raise invalid_input(error, self._names) from None
        if len(request) != 1:
            raise Problem("invalid_input", ONE_OF_BOTH)
        if "instances" in request:
            rows = request["instances"]
            values = list(zip(*[map(row.get, self._names) for row in rows], strict=True))
            return Columns(values, len(rows), count_unknown(rows, self._names))
        return self._from_columns(request["inputs"])

    def _from_columns(self, columns: dict[str, Any]) -> Columns:
        num_rows = one_length({len(values) for name, values in columns.items() if name in self._names})
        absent = [None] * num_rows
        unknown = count_unknown([columns], self._names, num_rows)
        return Columns([columns.get(name, absent) for name in self._names], num_rows, unknown)

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON schema of a request, with its definitions under ``#/components/schemas/``."""
        return self._request.json_schema(ref_template="#/components/schemas/{model}")
