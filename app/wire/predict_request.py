"""Bytes of a ``/predict`` request → encoded impressions.

The compiled reader decides what is right, and Pydantic explains what is not. Without a C compiler Pydantic decides. They
accept the same bodies, except that only the compiled reader refuses

* NaN and infinities as values of unknown fields, and such values that are more than 32 levels deep;
* a part, or a column of ``inputs``, that is given twice;
* a wrong value of a field that is given again in the same row, where the last value counts, and more such repeated values
  in a body than it may have rows;

and only Pydantic refuses integers of more than 4,300 digits as values of unknown fields.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter

from app.problems import Problem
from app.wire.field_types import (
    WireField,
    count_unknown,
    example_of,
    field_types,
    impression_type,
    list_of,
    typed_dict,
    wire_fields,
)
from app.wire.refusals import refuse, validated
from models.features.encoder import Encoder, FeatureEncoder
from models.features.field_encoder import Value
from models.features.request_reader import IS_COMPILED, Fault, Limits, PredictReader, PredictReading, keep_cpu
from models.features.token_spelling import MAX_TOKEN_CHARS
from models.schema.feature_schema import FittedSchema


@lru_cache(maxsize=4)
def request_type(fields: tuple[WireField, ...], max_rows: int) -> TypeAdapter[dict[str, Any]]:
    """Return the type of a ``/predict`` request; models with the same fields share it."""
    types = field_types(fields)
    limits = {"min_length": 1, "max_length": max_rows}
    rows = list_of(impression_type("Impression", types), **limits, description="Impressions, one object each")
    # One bad value of a column is enough to explain: 4 MB of them would take seconds.
    lists = {name: list_of(t, **limits, description=text, fail_fast=True) for name, (t, text) in types.items()}
    columns = typed_dict("ImpressionColumns", lists, extra="allow")
    return TypeAdapter(typed_dict("PredictRequest", {"instances": rows, "inputs": columns}, extra="forbid"))


class PredictWire:
    """Reads the bodies of ``/predict`` for one artifact.

    Args:
        schema: the artifact's.
        encoder: the artifact's.
        max_rows: most rows in one request.
        yield_cpu: called after each piece of work of less than a millisecond.
    """

    def __init__(
        self, schema: FittedSchema, encoder: FeatureEncoder, max_rows: int, yield_cpu: Callable[[], None] = keep_cpu
    ) -> None:
        self._names = encoder.names
        self._known = {*encoder.names, *encoder.derivation.sources}
        self._type = request_type(wire_fields(schema), max_rows)
        self._encoder = encoder
        limits = Limits(max_rows, MAX_TOKEN_CHARS)
        self._reader = PredictReader(encoder, limits, yield_cpu) if IS_COMPILED else None
        self.example = {"instances": [example_of(schema)]}

    def read(self, body: bytes) -> PredictReading:
        """Read a body.

        Raises:
            Problem: ``invalid_input``, naming rows and fields, the first few of them.
        """
        if self._reader is None:
            return self.read_with_pydantic(body)
        found = self._reader.read(body)
        if isinstance(found, Fault):
            refuse(body, found, self._type, self._names)
        return found

    def read_with_pydantic(self, body: bytes) -> PredictReading:
        """Do what `read` does without the compiled reader.

        Raises:
            Problem: ``invalid_input``.
        """
        request = validated(self._type, body, self._names)
        if len(request) != 1:
            raise Problem("invalid_input", "give either 'instances' or 'inputs'")
        if "instances" in request:
            rows: Sequence[Mapping[str, Any]] = request["instances"]
            unknown = count_unknown(rows, self._known)
        else:
            inputs: Mapping[str, Any] = request["inputs"]
            num_rows = _one_length({len(values) for name, values in inputs.items() if name in self._known})
            given = {name: values for name, values in inputs.items() if name in self._known}
            rows = [dict(zip(given, row, strict=True)) for row in zip(*given.values(), strict=True)]
            unknown = {name: n * num_rows for name, n in count_unknown([inputs], self._known).items()}
        batch = self._encoder.encode(columns_of(self._encoder, rows))
        return PredictReading(batch, *self._encoder.name_special(batch), unknown)

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON schema of a request, with its definitions under ``#/components/schemas/``."""
        return self._type.json_schema(ref_template="#/components/schemas/{model}")


def columns_of(encoder: Encoder, rows: Sequence[Mapping[str, Any]]) -> list[list[Value]]:
    """Return impressions by column, in the order of the encoder's fields, with what derives from their moments.

    Raises:
        Problem: ``invalid_input``: a moment is not written as in the log.
    """
    filled = []
    for i, row in enumerate(rows):
        try:
            filled.append(encoder.derivation.fill(row))
        except ValueError:
            fault = {"message": "expected a time that is written as in the log", "row": i}
            raise Problem("invalid_input", errors=[fault]) from None
    return [[row.get(name) for row in filled] for name in encoder.names]


def _one_length(lengths: set[int]) -> int:
    if not lengths:
        raise Problem("invalid_input", "give at least one field of the schema")
    if len(lengths) > 1:
        raise Problem("invalid_input", "all columns of 'inputs' must have the same length")
    return lengths.pop()
