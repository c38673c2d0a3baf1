"""Reads click logs, a chunk of rows at a time. Every error names file, row and column.

A canonical frame has the label as Int8, tokens as String (integers in decimal), numbers as Float64 and sequences as
List(String). The columns to group and to split by keep their types unless they are fields.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from models.data.log_files import UNREADABLE, find_files, first_line, is_text, scan_file
from models.data.token_types import can_be_token, stated_types
from models.errors import LogError
from models.schema.feature_schema import FeatureSchema, FieldSpec, TokenType

# Rows read at once: enough to keep two cores busy, few enough that their text needs little memory.
CHUNK_ROWS = 32_768


class Position(NamedTuple):
    """File and number of a chunk's first row, for error messages."""

    path: Path
    first_row: int


class Chunk(NamedTuple):
    """Some rows of one file as a canonical frame, and the token types stated by the files so far, by field."""

    frame: pl.DataFrame
    stated: dict[str, TokenType]


def read_chunks(patterns: Sequence[str], schema: FeatureSchema) -> Iterator[Chunk]:
    """Read and check a log, a chunk of rows at a time, in the order of the files.

    Raises:
        LogError: a column is missing, a label is not 0 or 1, there are no rows, a time to split by is null, a value is not of
            its field's kind, or a column's type differs between files.
    """
    files = find_files(patterns)
    types: dict[str, tuple[TokenType, Path]] = {}
    num_rows = 0
    for path in files:
        lazy = _select(path, schema)
        stated = {} if is_text(path) else stated_types(lazy.collect_schema(), schema)
        for name, dtype in stated.items():
            first, where = types.setdefault(name, (dtype, path))
            if first != dtype:
                raise LogError(f"{path}: column {name!r}: holds {dtype} tokens, but {where} has {first} ones")
        position = Position(path, 0)
        for raw in _batches(lazy, path):
            yield Chunk(_canonical(raw, position, schema), {name: dtype for name, (dtype, _) in types.items()})
            position = Position(path, position.first_row + raw.height)
        num_rows += position.first_row
    if not num_rows:
        raise LogError(f"{files[0]}: the log has no rows")


def read_frame(patterns: Sequence[str], schema: FeatureSchema) -> pl.DataFrame:
    """Read a whole log into one canonical frame, sorted by time if the schema names a split column.

    Raises:
        LogError: as in `read_chunks`, or every label is the same.
    """
    frame = pl.concat([chunk.frame for chunk in read_chunks(patterns, schema)])
    refuse_one_class(frame[schema.label])
    if schema.split.column is not None:
        times = comparable(frame[schema.split.column])
        frame = frame.with_columns(times).sort(schema.split.column, maintain_order=True)
    return frame


def refuse_one_class(labels: pl.Series) -> None:
    """Check that labels hold both classes.

    Raises:
        LogError: every label is the same.
    """
    if labels.n_unique() < 2:
        raise LogError(f"column {labels.name!r}: every label is {labels[0]}, expected both 0 and 1")


def comparable(times: pl.Series) -> pl.Series:
    """Return a split column of text as integers if all of it are, so that 9 sorts before 10."""
    if times.dtype != pl.String:
        return times
    numbers = times.cast(pl.Int64, strict=False)
    return times if numbers.null_count() else numbers


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


def _canonical(raw: pl.DataFrame, position: Position, schema: FeatureSchema) -> pl.DataFrame:
    columns = {schema.label: _labels(raw[schema.label], position)}
    columns |= canonical_fields(raw, position, schema)
    for name in (schema.group, schema.split.column):
        if name is not None and name not in columns:
            columns[name] = raw[name]
    if schema.split.column is not None:
        times = columns[schema.split.column]
        _refuse(times.is_null(), times, position, "expected a time to split by")
    return pl.DataFrame(columns)


def canonical_fields(raw: pl.DataFrame, position: Position, schema: FeatureSchema) -> dict[str, pl.Series]:
    """Return the fields' columns of some rows as a canonical frame has them, by name.

    Raises:
        LogError: a value is not of its field's kind.
    """
    columns = {}
    for field in schema.fields:
        series = raw[field.name]
        if field.kind == "numeric":
            columns[field.name] = _numbers(series, position)
        elif field.kind == "sequence":
            columns[field.name] = _sequences(series, position, schema.log.list_separator, field)
        else:
            columns[field.name] = _tokens(series, position)
    return columns


def _labels(series: pl.Series, position: Position) -> pl.Series:
    labels = _floats(series, position, "labels 0 and 1")
    found = labels.to_numpy()  # NaN where null
    bad = (found != 0.0) & (found != 1.0)
    if bad.any():
        _refuse(pl.Series(bad), series, position, "expected a label 0 or 1")
    return labels.cast(pl.Int8)


def _floats(series: pl.Series, position: Position, expected: str) -> pl.Series:
    if not (series.dtype.is_numeric() or series.dtype in (pl.String, pl.Boolean, pl.Null)):
        raise LogError(f"{position.path}: column {series.name!r}: is {series.dtype}, expected {expected}")
    return series.cast(pl.Float64, strict=False)


def _numbers(series: pl.Series, position: Position) -> pl.Series:
    numbers = _floats(series, position, "numbers")
    if numbers.null_count() > series.null_count():
        _refuse(numbers.is_null() & series.is_not_null(), series, position, "expected a number")
    # In numpy: polars' thread pool is busy reading the next rows.
    has_nan = np.count_nonzero(np.isnan(numbers.to_numpy())) > numbers.null_count()
    return numbers.fill_nan(None) if has_nan else numbers


def _tokens(series: pl.Series, position: Position) -> pl.Series:
    if series.dtype == pl.String:
        return series
    if series.dtype.is_float():
        whole = series.fill_nan(None)
        bad = (whole != whole.round()) | (whole.abs() > 2**53)
        _refuse(bad, series, position, "expected a whole number as token; is this field numeric?")
        series = whole.cast(pl.Int64)
    elif series.dtype == pl.Boolean:
        series = series.cast(pl.Int8)
    elif not can_be_token(series.dtype):
        expected = "tokens (strings or whole numbers)"
        raise LogError(f"{position.path}: column {series.name!r}: is {series.dtype}, expected {expected}")
    return series.cast(pl.String)


def _sequences(series: pl.Series, position: Position, separator: str, field: FieldSpec) -> pl.Series:
    if series.dtype == pl.String:
        series = series.str.split(separator).list.eval(pl.element().filter(pl.element() != ""))
    if series.dtype == pl.Null:
        return series.cast(pl.List(pl.String))
    if not isinstance(series.dtype, pl.List):
        raise LogError(f"{position.path}: column {series.name!r}: is {series.dtype}, expected lists")
    tokens = series.list.drop_nulls().list.tail(field.max_length)
    inner = series.dtype.inner
    if inner.is_float():
        whole = tokens.list.eval((pl.element() == pl.element().round()) & (pl.element().abs() <= 2**53)).list.all()
        _refuse(~whole, series, position, "expected whole numbers as tokens")
        tokens = tokens.cast(pl.List(pl.Int64))
    elif not can_be_token(inner):
        raise LogError(f"{position.path}: column {series.name!r}: is {series.dtype}, expected lists of tokens")
    elif inner == pl.Boolean:
        tokens = tokens.cast(pl.List(pl.Int8))
    return tokens.cast(pl.List(pl.String)).alias(series.name)


def _refuse(bad: pl.Series, series: pl.Series, position: Position, expected: str) -> None:
    at = bad.fill_null(value=False).arg_max() if bad.fill_null(value=False).any() else None
    if at is not None:
        value = series[at].to_list() if isinstance(series[at], pl.Series) else series[at]
        got = "a null" if value is None else repr(value)[:64]
        raise LogError(
            f"{position.path}: row {position.first_row + at + 1}, column {series.name!r}: {expected}, got {got}"
        )
