"""Requests of many rows checked by msgspec, with the types of the wire: a fifth of the time that pydantic-core takes.

What is right is taken, with the values that pydantic-core gives (tested by property). Every other body is left to
pydantic-core, which says all that is wrong with it; but of a large one only the first fault is told, from here,
since a body of millions of values would keep pydantic-core, and all who wait, for a second.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np
from msgspec import UNSET, Meta, Raw, UnsetType
from msgspec.json import Decoder

from app.problems import Problem
from app.wire.field_types import MAX_SEQUENCE, MAX_TOKEN_CHARS, WireField
from models.features.field_encoder import Value

MIN_BYTES = 2_048
"""A row or two are validated by pydantic-core alone."""
MAX_EXPLAINED_BYTES = 1 << 18
"""Of a larger body only the first fault is told."""

B = TypeVar("B", bytes, bytearray, bytes | bytearray)
T = TypeVar("T")
Integer = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Text = Annotated[str, Meta(max_length=MAX_TOKEN_CHARS)]

FAULTS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding raises."""


class QuickReader:
    """Reads requests of some parts, such as ``instances``, each of which may be absent.

    Args:
        parts: the types of the parts by name; called with whether fields that the model has not are refused or skipped.
        names: types of the parts that hold such fields, with dictionaries in the place of structures.
        rows: name of the part that is a list of rows.
        max_rows: most of them.
    """

    def __init__(
        self, parts: Callable[[bool], Mapping[str, Any]], names: Mapping[str, Any], rows: str, max_rows: int
    ) -> None:
        self._refusing, self._skipping = (_decoder(parts(is_strict)) for is_strict in (True, False))
        self._naming = _decoder({name: names.get(name, t) for name, t in parts(False).items()})
        others = dict.fromkeys(parts(False), Raw)
        self._counting = _decoder({**others, rows: list_of(Raw, max_rows)})
        self._max_rows = max_rows

    def read(self, body: bytes | bytearray) -> tuple[Any, Any | None]:
        """Decode a request; its attributes are the parts, or `UNSET`.

        Returns:
            the request; and if it has fields that the model has not, the same with dictionaries.

        Raises:
            FAULTS: it does not fit.
        """
        if body.count(b"{") > 2 * self._max_rows:  # a million empty rows would take a gigabyte as structures
            self._counting.decode(body)
        try:
            return self._refusing.decode(body), None
        except msgspec.ValidationError as error:
            if not str(error).startswith("Object contains unknown field"):
                raise
        request = self._skipping.decode(body)
        body.decode()  # what is skipped must be UTF-8 too
        return request, self._naming.decode(body)


def _decoder(parts: Mapping[str, Any]) -> Decoder[Any]:
    fields = [(name, t | UnsetType, UNSET) for name, t in parts.items()]
    return Decoder(msgspec.defstruct("Request", fields, forbid_unknown_fields=True, gc=False))


def row_struct(fields: Sequence[WireField], is_strict: bool) -> Any:
    """Return the type of an impression, or one side of it; a field that is absent is ``None``."""
    return _struct(fields, [_type(field) | None for field in fields], None, is_strict)


def column_struct(fields: Sequence[WireField], is_strict: bool, max_rows: int) -> Any:
    """Return the type of columns; one that is absent is `UNSET`."""
    types = [list_of(_type(field) | None, max_rows) | UnsetType for field in fields]
    return _struct(fields, types, UNSET, is_strict)


def list_of(item: Any, max_rows: int) -> Any:
    """Return the type of a list of one to ``max_rows`` items."""
    return Annotated[list[item], Meta(min_length=1, max_length=max_rows)]


ANY_ROW = dict[str, Raw]


def _struct(fields: Sequence[WireField], types: Sequence[Any], default: Any, is_strict: bool) -> Any:
    attributes = [(f"f{i}", t, default) for i, t in enumerate(types)]  # a field's name need be none of an attribute
    names = {f"f{i}": field.name for i, field in enumerate(fields)}
    return msgspec.defstruct("Fields", attributes, rename=names, forbid_unknown_fields=is_strict, gc=False)


def _type(field: WireField) -> Any:
    if field.kind == "numeric":
        return float
    token = Integer if field.dtype == "integer" else Text
    return Annotated[list[token], Meta(max_length=MAX_SEQUENCE)] if field.kind == "sequence" else token  # type: ignore[valid-type]


class FieldValues:
    """Takes structures of some fields apart.

    Args:
        fields: of `row_struct` or `column_struct`.
    """

    def __init__(self, fields: Sequence[WireField]) -> None:
        self._numeric = [i for i, field in enumerate(fields) if field.kind == "numeric"]
        names = [f"f{i}" for i in range(len(fields))]
        self._get: Callable[[Any], tuple[Any, ...]]
        # Of one name attrgetter gives no tuple.
        self._get = attrgetter(*names) if len(names) > 1 else lambda s: tuple(getattr(s, name) for name in names)

    def of_rows(self, rows: Iterable[Any]) -> list[Sequence[Value]]:
        """Return the columns of rows; numbers as float64 [B], NaN for a null."""
        return self._with_arrays(list(zip(*map(self._get, rows), strict=True)))

    def of_columns(self, columns: Any) -> tuple[list[Sequence[Value]], int]:
        """Return columns in the fields' order, with nulls for those that are absent, and the number of rows.

        Raises:
            Problem: ``invalid_input``.
        """
        values = self._get(columns)
        num_rows = one_length({len(column) for column in values if column is not UNSET})
        return self._with_arrays([[None] * num_rows if column is UNSET else column for column in values]), num_rows

    def _with_arrays(self, columns: list[Any]) -> list[Sequence[Value]]:
        for i in self._numeric:
            columns[i] = np.array(columns[i], np.float64)
        return columns


def one_length(lengths: set[int]) -> int:
    """Return the length of all columns of a request.

    Raises:
        Problem: ``invalid_input``.
    """
    if not lengths:
        raise Problem("invalid_input", "give at least one field of the schema")
    if len(lengths) > 1:
        raise Problem("invalid_input", "all columns of 'inputs' must have the same length")
    return lengths.pop()


def read(body: B, quickly: Callable[[B], T], carefully: Callable[[B], T], names: Mapping[str, Any]) -> T:
    """Return what ``quickly`` makes of a body, or ``carefully`` where it is small or has faults to be told.

    Args:
        body: of the request.
        quickly: raises `FAULTS`.
        carefully: tells all that is wrong with a body.
        names: of the model's fields.

    Raises:
        Problem: ``invalid_input``.
    """
    if len(body) < MIN_BYTES:
        return carefully(body)
    try:
        return quickly(body)
    except FAULTS as error:
        if len(body) > MAX_EXPLAINED_BYTES:
            raise first_fault(error, names) from None
    return carefully(body)


PATH = re.compile(r"(Expected [^$]+) - at `\$\.(\w+)(?:\[(\d+)\])?(?:\.([^[]+))?(?:\[(\d+)\])?.*`", re.DOTALL)


def first_fault(error: Exception, names: Mapping[str, Any]) -> Problem:
    """Return the refusal of a body for the fault that decoding met first.

    >>> error = msgspec.ValidationError("Expected `str | null`, got `int` - at `$.inputs.site[3]`")
    >>> first_fault(error, {"site": None}).errors
    [{'message': 'Expected `str | null`, got `int`', 'row': 3, 'field': 'site'}]
    """
    found = PATH.fullmatch(str(error)) if isinstance(error, msgspec.ValidationError) else None
    if found is None:
        return Problem("invalid_input", "the body is no JSON, or no request")
    message, part, row, field, place = found.groups()
    fault: dict[str, Any] = {"message": message}
    if (row or place) is not None:
        fault["row"] = int(row or place)
    fault["field"] = field if field in names else part
    return Problem("invalid_input", errors=[fault])
