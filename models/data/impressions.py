"""Reads click logs, a chunk of rows at a time. Every fault names file, row and column.

A canonical frame has the label as Int8, tokens as String (integers in decimal), numbers as Float64 and sequences as
List(String); the columns to group and to split by, if they are no fields, as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from polars.datatypes import DataTypeClass

from models.data.log_files import UNREADABLE, find_files, first_line, is_text, scan_file
from models.errors import LogError
from models.schema.feature_schema import FeatureSchema, FieldSpec, TokenType

# Rows read at once: enough to keep two cores busy, little enough that text never takes much memory.
CHUNK_ROWS = 32_768


class Place(NamedTuple):
    """Where a chunk's rows stand, for messages."""

    path: Path
    first_row: int


class Chunk(NamedTuple):
    """Some rows of one file, canonical; and the token types that this file and those before it state, by field."""

    frame: pl.DataFrame
    stated: dict[str, TokenType]


@dataclass(frozen=True)
class Log:
    """A whole log in memory.

    Args:
        frame: canonical.
        dtypes: the type on the wire of each field with tokens.
        files: names of the files read, without their folders.
    """

    frame: pl.DataFrame
    dtypes: dict[str, TokenType]
    files: tuple[str, ...]


def read_chunks(patterns: Sequence[str], schema: FeatureSchema) -> Iterator[Chunk]:
    """Read a log a chunk of rows at a time, checked, in the order of the files.

    Raises:
        LogError: a missing column, a label other than 0 and 1, no rows at all, a null where a time should stand, a value
            that is not of its field's kind, or a column whose type differs between files.
    """
    files = find_files(patterns)
    types: dict[str, tuple[TokenType, Path]] = {}
    num_rows = 0
    for path in files:
        lazy = _select(path, schema)
        stated = {} if is_text(path) else _token_types(lazy.collect_schema(), schema)
        for name, dtype in stated.items():
            first, where = types.setdefault(name, (dtype, path))
            if first != dtype:
                raise LogError(f"{path}: column {name!r}: holds {dtype} tokens, but {where} has {first} ones")
        place = Place(path, 0)
        for raw in _batches(lazy, path):
            yield Chunk(_canonical(raw, place, schema), {n: t for n, (t, _) in types.items()})
            place = Place(path, place.first_row + raw.height)
        num_rows += place.first_row
    if not num_rows:
        raise LogError(f"{files[0]}: the log has no rows")


def read_log(patterns: Sequence[str], schema: FeatureSchema) -> Log:
    """Read a whole log into memory, in time order where the schema says what time is; errors as in `read_chunks`."""
    chunks = list(read_chunks(patterns, schema))
    frame = pl.concat([c.frame for c in chunks])
    if schema.split.column is not None:
        time = comparable(frame[schema.split.column])
        frame = frame.with_columns(time).sort(schema.split.column, maintain_order=True)
    fields = [f for f in schema.fields if f.kind != "numeric"]
    dtypes = {f.name: decide_type(f, chunks[-1].stated.get(f.name), frame[f.name]) for f in fields}
    refuse_one_class(frame[schema.label])
    return Log(frame, dtypes, tuple(path.name for path in find_files(patterns)))


def refuse_one_class(labels: pl.Series) -> None:
    """Refuse labels from which nothing can be learnt.

    Raises:
        LogError: every label is the same.
    """
    if labels.n_unique() < 2:
        raise LogError(f"column {labels.name!r}: every label is {labels[0]}, expected both 0 and 1")


def comparable(times: pl.Series) -> pl.Series:
    """Return the split column as whole numbers when text holds nothing else, so that 9 comes before 10."""
    if times.dtype != pl.String:
        return times
    numbers = times.cast(pl.Int64, strict=False)
    return times if numbers.null_count() else numbers


def decide_type(field: FieldSpec, stated: TokenType | None, tokens: pl.Series) -> TokenType:
    """Return the type that a field's tokens have on the wire: the schema's, else the file's, else by their spelling.

    Raises:
        LogError: tokens that are said to be integers and are not.
    """
    dtype = field.dtype or stated
    if dtype == "string":
        return dtype
    if isinstance(tokens.dtype, pl.List):
        tokens = tokens.explode(empty_as_null=False, keep_nulls=False)
    by_content: TokenType = "integer" if are_integers(tokens.head(1_000)) and are_integers(tokens) else "string"
    if dtype == "integer" != by_content:
        raise LogError(f"column {field.name!r}: holds tokens that are not whole numbers, expected 'integer' ones")
    return by_content


def _select(path: Path, schema: FeatureSchema) -> pl.LazyFrame:
    lazy = scan_file(path, schema.log)
    present = lazy.collect_schema().names()
    absent = [c for c in schema.columns if c not in present]
    if absent:
        names = ", ".join(repr(name[:64]) for name in present[:50])
        raise LogError(f"{path}: column {absent[0]!r} is missing, the file has {names}")
    return lazy.select(schema.columns)


def _batches(lazy: pl.LazyFrame, path: Path) -> Iterator[pl.DataFrame]:
    try:
        yield from lazy.collect_batches(chunk_size=CHUNK_ROWS, maintain_order=True)
    except UNREADABLE as error:
        raise LogError(f"{path}: cannot be read: {first_line(error)}") from error


def _canonical(raw: pl.DataFrame, place: Place, schema: FeatureSchema) -> pl.DataFrame:
    columns = {schema.label: _labels(raw[schema.label], place)}
    for field in schema.fields:
        series = raw[field.name]
        if field.kind == "numeric":
            columns[field.name] = _numbers(series, place)
        elif field.kind == "sequence":
            columns[field.name] = _sequences(series, place, schema.log.list_separator, field)
        else:
            columns[field.name] = _tokens(series, place)
    for name in (schema.group, schema.split.column):
        if name is not None and name not in columns:
            columns[name] = raw[name]
    if schema.split.column is not None:
        times = columns[schema.split.column]
        _refuse(times.is_null(), times, place, "expected a time to split by")
    return pl.DataFrame(columns)


def _labels(series: pl.Series, place: Place) -> pl.Series:
    labels = _floats(series, place, "labels 0 and 1")
    found = labels.to_numpy()  # NaN where null
    bad = (found != 0.0) & (found != 1.0)
    if bad.any():
        _refuse(pl.Series(bad), series, place, "expected a label 0 or 1")
    return labels.cast(pl.Int8)


def _floats(series: pl.Series, place: Place, expected: str) -> pl.Series:
    if not (series.dtype.is_numeric() or series.dtype in (pl.String, pl.Boolean, pl.Null)):
        raise LogError(f"{place.path}: column {series.name!r}: is {series.dtype}, expected {expected}")
    return series.cast(pl.Float64, strict=False)


def _numbers(series: pl.Series, place: Place) -> pl.Series:
    numbers = _floats(series, place, "numbers")
    if numbers.null_count() > series.null_count():
        _refuse(numbers.is_null() & series.is_not_null(), series, place, "expected a number")
    # Here and below numpy looks, since polars would let it wait for the threads that read what comes next.
    has_nan = np.count_nonzero(np.isnan(numbers.to_numpy())) > numbers.null_count()
    return numbers.fill_nan(None) if has_nan else numbers


def _tokens(series: pl.Series, place: Place) -> pl.Series:
    if series.dtype == pl.String:
        return series
    if series.dtype.is_float():
        whole = series.fill_nan(None)
        bad = (whole != whole.round()) | (whole.abs() > 2**53)
        _refuse(bad, series, place, "expected a whole number as token; is this field numeric?")
        series = whole.cast(pl.Int64)
    elif series.dtype == pl.Boolean:
        series = series.cast(pl.Int8)
    elif not is_token(series.dtype):
        expected = "tokens (strings or whole numbers)"
        raise LogError(f"{place.path}: column {series.name!r}: is {series.dtype}, expected {expected}")
    return series.cast(pl.String)


def _sequences(series: pl.Series, place: Place, separator: str, field: FieldSpec) -> pl.Series:
    if series.dtype == pl.String:
        series = series.str.split(separator).list.eval(pl.element().filter(pl.element() != ""))
    if series.dtype == pl.Null:
        return series.cast(pl.List(pl.String))
    if not isinstance(series.dtype, pl.List):
        raise LogError(f"{place.path}: column {series.name!r}: is {series.dtype}, expected lists")
    tokens = series.list.drop_nulls().list.tail(field.max_length)
    inner = series.dtype.inner
    if inner.is_float():  # null where a list holds anything but whole numbers
        whole = tokens.list.eval((pl.element() == pl.element().round()) & (pl.element().abs() <= 2**53)).list.all()
        _refuse(~whole, series, place, "expected whole numbers as tokens")
        tokens = tokens.cast(pl.List(pl.Int64))
    elif not is_token(inner):
        raise LogError(f"{place.path}: column {series.name!r}: is {series.dtype}, expected lists of tokens")
    elif inner == pl.Boolean:
        tokens = tokens.cast(pl.List(pl.Int8))
    return tokens.cast(pl.List(pl.String)).alias(series.name)


def is_token(dtype: pl.DataType | DataTypeClass) -> bool:
    """Whether values of a type can be tokens as they are."""
    return dtype.is_integer() or dtype in (pl.String, pl.Boolean, pl.Categorical, pl.Enum, pl.Date, pl.Null)


def _refuse(bad: pl.Series, series: pl.Series, place: Place, expected: str) -> None:
    at = bad.fill_null(value=False).arg_max() if bad.fill_null(value=False).any() else None
    if at is not None:
        value = series[at].to_list() if isinstance(series[at], pl.Series) else series[at]
        got = "a null" if value is None else repr(value)[:64]
        raise LogError(f"{place.path}: row {place.first_row + at + 1}, column {series.name!r}: {expected}, got {got}")


def _token_types(columns: pl.Schema, schema: FeatureSchema) -> dict[str, TokenType]:
    # The token types that a typed file states; a column of nulls only leaves it open.
    types: dict[str, TokenType] = {}
    for field in schema.fields:
        dtype = columns[field.name]
        inner = dtype.inner if isinstance(dtype, pl.List) else dtype
        if field.kind != "numeric" and inner != pl.Null:
            types[field.name] = "integer" if inner.is_numeric() or inner == pl.Boolean else "string"
    return types


def are_integers(tokens: pl.Series) -> bool:
    """Whether each token is the decimal spelling of an int64, so that ``str(int(token))`` gives it back unchanged."""
    distinct = tokens.drop_nulls().unique()
    return bool((distinct.cast(pl.Int64, strict=False).cast(pl.String) == distinct).fill_null(value=False).all())
