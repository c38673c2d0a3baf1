"""Many rows checked by msgspec, with the types of the wire: a fifth of the time that pydantic-core takes.

It takes bodies that are right and leaves every other one, and every doubt, to pydantic-core, which then says what is
wrong. What it takes, pydantic-core takes too, with the same values (tested by property).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType
from msgspec.json import Decoder

from app.wire_types import MAX_SEQUENCE, MAX_TOKEN_CHARS, WireField, count_unknown, printable
from models.field_encoding import Value

MIN_BYTES = 2_048
"""A row or two are validated by pydantic-core alone."""

INTEGER = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
TEXT = Annotated[str, Meta(max_length=MAX_TOKEN_CHARS)]


class QuickRows:
    """Reads ``/predict`` bodies for one schema.

    Args:
        fields: of the schema, in its order.
        max_rows: most rows in one request.
    """

    def __init__(self, fields: tuple[WireField, ...], max_rows: int) -> None:
        self._decoders = _decoders(fields, max_rows)
        self._names = dict.fromkeys(field.name for field in fields)
        attributes = [_attribute(i) for i in range(len(fields))]
        self._values = attrgetter(*attributes) if len(fields) > 1 else lambda row: (row.f0,)
        self._numeric = [i for i, field in enumerate(fields) if field.kind == "numeric"]

    def read(self, body: bytes | bytearray) -> tuple[list[Sequence[Value]], int, dict[str, int]] | None:
        """Return checked values by field, the number of rows B and of unknown fields; ``None``: pydantic-core must look.

        Numbers come as float64 [B], NaN for a null.
        """
        unknown: Mapping[str, Any] | list[Mapping[str, Any]] = {}
        try:
            try:
                request = self._decoders.known_fields.decode(body)
            except msgspec.ValidationError:  # perhaps it only has fields that the model has not
                request = self._decoders.all_fields.decode(body)
                everything = self._decoders.names.decode(body)
                unknown = everything.inputs if request.instances is UNSET else everything.instances
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None
        if (request.instances is UNSET) == (request.inputs is UNSET):
            return None
        columns: list[Any]
        if request.instances is not UNSET:
            columns, num_rows = list(zip(*map(self._values, request.instances), strict=True)), len(request.instances)
        else:
            columns = list(self._values(request.inputs))
            lengths = {len(column) for column in columns if column is not UNSET}
            if len(lengths) != 1:
                return None
            num_rows = lengths.pop()
            columns = [[None] * num_rows if column is UNSET else column for column in columns]
        for i in self._numeric:
            columns[i] = np.array(columns[i], np.float64)
        if isinstance(unknown, list):
            return columns, num_rows, count_unknown(unknown, self._names)
        return columns, num_rows, {printable(name): num_rows for name in unknown.keys() - self._names.keys()}


class _Decoders(NamedTuple):
    """Of whole requests."""

    known_fields: Decoder[Any]
    """Refuses fields that the model has not."""
    all_fields: Decoder[Any]
    """Skips them."""
    names: Decoder[Any]
    """Reads rows and columns as dictionaries, whatever they hold."""


@lru_cache(maxsize=4)
def _decoders(fields: tuple[WireField, ...], max_rows: int) -> _Decoders:
    types = [_type(field) | None for field in fields]
    some_rows = Meta(min_length=1, max_length=max_rows)
    lists = [Annotated[list[t], some_rows] | UnsetType for t in types]  # type: ignore[valid-type]

    def of(row: Any, columns: Any) -> Decoder[Any]:
        parts = [
            ("instances", Annotated[list[row], some_rows] | UnsetType, UNSET),
            ("inputs", columns | UnsetType, UNSET),
        ]
        return Decoder(msgspec.defstruct("Request", parts, forbid_unknown_fields=True, gc=False))

    known, every = (
        of(_struct(fields, types, None, is_strict), _struct(fields, lists, UNSET, is_strict))
        for is_strict in (True, False)
    )
    return _Decoders(known, every, of(dict[str, Any], dict[str, Any]))


def _struct(fields: tuple[WireField, ...], types: list[Any], default: Any, is_strict: bool) -> Any:
    attributes = [(_attribute(i), t, default) for i, t in enumerate(types)]
    names = {_attribute(i): field.name for i, field in enumerate(fields)}
    return msgspec.defstruct("Fields", attributes, rename=names, forbid_unknown_fields=is_strict, gc=False)


def _attribute(i: int) -> str:
    return f"f{i}"  # a field's name need be no name of an attribute


def _type(field: WireField) -> Any:
    if field.kind == "numeric":
        return float
    token = INTEGER if field.dtype == "integer" else TEXT
    return Annotated[list[token], Meta(max_length=MAX_SEQUENCE)] if field.kind == "sequence" else token  # type: ignore[valid-type]
