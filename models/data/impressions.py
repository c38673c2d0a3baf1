"""Reads click logs, a chunk of rows at a time. Every error names file, row and column.

A canonical frame has the label as Int8, tokens as String, numbers as Float64, sequences as List(String), and the time to split
by, if the schema has one, as `TIME`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from models.data.columns import (
    Position,
    plain,
    read_counts,
    read_labels,
    read_numbers,
    read_sequences,
    read_times,
    read_tokens,
)
from models.data.log_files import UNREADABLE, find_files, first_line, is_text, json_columns, scan_file, with_columns
from models.errors import LogError
from models.features.moments import DERIVE
from models.schema.feature_schema import FeatureSchema, FieldSpec

# Rows read at once: enough to keep two cores busy, few enough that their text needs little memory.
CHUNK_ROWS = 32_768
TIME = "\0time"
"""Column of a canonical frame: Datetime in microseconds (UTC) or Float64; null in a row without a time."""


def read_chunks(patterns: Sequence[str], schema: FeatureSchema) -> Iterator[pl.DataFrame]:
    """Read and check a log as canonical frames of some rows each, in the order of the files.

    Raises:
        LogError: a column is missing, a label says neither click nor non-click, there are no rows, or a value is not of its
            field's kind.
    """
    files = find_files(patterns)
    labels: set[int] = set()
    num_rows = 0
    keys = json_columns(files)
    for path in files:
        position = Position(path, 0)
        for raw in _batches(_select(path, schema, keys), path):
            frame = _canonical(raw, position, schema)
            labels |= set(frame[schema.label].unique().to_list())
            if {-1, 0} <= labels:
                raise LogError(
                    f"{path}: column {schema.label!r}: has labels 0 and -1, expected one value for a non-click"
                )
            yield frame.with_columns(pl.col(schema.label).clip(lower_bound=0)) if -1 in labels else frame
            position = Position(path, position.first_row + raw.height)
        num_rows += position.first_row
    if not num_rows:
        raise LogError(f"{files[0]}: the log has no rows")


def read_frame(patterns: Sequence[str], schema: FeatureSchema) -> pl.DataFrame:
    """Read a whole log into one canonical frame, sorted by time if the schema names a split column.

    Raises:
        LogError: as in `read_chunks`, or every label is the same.
    """
    frame = pl.concat(read_chunks(patterns, schema))
    refuse_one_class(frame[schema.label])
    return frame.sort(TIME, maintain_order=True) if schema.split.column is not None else frame


def refuse_one_class(labels: pl.Series) -> None:
    """Check that labels hold both classes.

    Raises:
        LogError: every label is the same.
    """
    if labels.n_unique() < 2:
        raise LogError(f"column {labels.name!r}: every label is {labels[0]}, expected both 0 and 1")


def _select(path: Path, schema: FeatureSchema, keys: frozenset[str]) -> pl.LazyFrame:
    lazy = with_columns(path, scan_file(path, schema.log), keys)
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
        advice = "; if double quotes are characters like any other here, set quoted = false in the schema's [log]"
        is_quote = is_text(path) and '"' in str(error)
        raise LogError(f"{path}: cannot be read: {first_line(error)}{advice if is_quote else ''}") from error


def _canonical(raw: pl.DataFrame, position: Position, schema: FeatureSchema) -> pl.DataFrame:
    columns = {}
    if schema.impressions is None:
        columns[schema.label] = read_labels(plain(raw[schema.label]), position, schema.positive)
    if schema.split.column is not None:
        columns[TIME] = read_times(raw, schema)
    columns |= canonical_fields(raw, position, schema, columns.get(TIME))
    if schema.group is not None and schema.group not in columns:
        columns[schema.group] = raw[schema.group].cast(pl.String)
    frame = pl.DataFrame(columns)
    if schema.impressions is None:
        return frame
    shown, clicks = read_counts(plain(raw[schema.impressions]), plain(raw[schema.label]), position)
    at = np.repeat(np.arange(frame.height), shown)
    number = np.arange(len(at)) - np.repeat(np.cumsum(shown) - shown, shown)  # of an impression in its row
    return frame[at].with_columns(pl.Series(schema.label, (number < clicks[at]).astype(np.int8)))


def canonical_fields(
    raw: pl.DataFrame, position: Position, schema: FeatureSchema, times: pl.Series | None
) -> dict[str, pl.Series]:
    """Return the fields' columns of some rows as a canonical frame has them, by name.

    Args:
        raw: with a column for each field, but those that derive from the time.
        position: of the rows, for error messages.
        schema: of the log.
        times: of the rows, for the derived fields that ``raw`` lacks.

    Raises:
        LogError: a value is not of its field's kind.
    """
    columns, log = {}, schema.log
    for field in schema.fields:
        if field.derived is not None and field.name not in raw.columns:
            assert times is not None, "a schema with derived fields has a time"
            columns[field.name] = derive(field, times)
            continue
        series = plain(raw[field.name], log.null_values)
        if field.kind == "numeric":
            columns[field.name] = read_numbers(series, position, decimal_comma=log.decimal_comma)
        elif field.kind == "sequence":
            columns[field.name] = read_sequences(series, position, log.list_separator, field)
        else:
            columns[field.name] = read_tokens(series, position)
    return columns


def derive(field: FieldSpec, times: pl.Series) -> pl.Series:
    """Return a derived field's tokens, String, for times that are moments; all null for other times."""
    assert field.derived is not None, "the field is derived"
    if not isinstance(times.dtype, pl.Datetime):
        return pl.Series(field.name, [None] * len(times), pl.String)
    moments: Any = times.to_physical()
    tokens: pl.Series = DERIVE[field.derived](moments).cast(pl.String)  # type: ignore[attr-defined]
    return tokens.alias(field.name)
