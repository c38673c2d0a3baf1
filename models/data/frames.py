"""Impressions without a label: frames of other libraries, and files some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from models.data.columns import Position, read_times
from models.data.impressions import CHUNK_ROWS, canonical_fields
from models.data.log_files import UNREADABLE, first_line, scan_file
from models.data.moments import MOMENT
from models.errors import LogError
from models.schema.feature_schema import FeatureSchema, LogFormat


def to_polars(frame: Any) -> pl.DataFrame:
    """Return a Polars or pandas frame, an Arrow table or a mapping of columns as a Polars frame.

    Raises:
        LogError: it is none of these, or its columns differ in length.
    """
    if isinstance(frame, pl.DataFrame):
        return frame
    if isinstance(frame, pl.LazyFrame):
        return frame.collect()
    try:
        return pl.DataFrame(frame)
    except (*UNREADABLE, TypeError, ValueError) as error:
        raise LogError(f"the frame cannot be read: {first_line(error)}") from error


def canonical_columns(frame: pl.DataFrame, schema: FeatureSchema) -> dict[str, pl.Series]:
    """Return the fields' columns as `models.data.impressions` reads them from files; an absent field is null everywhere.

    Raises:
        LogError: there is no field, or a value is not of its field's kind.
    """
    absent = [field.name for field in schema.fields if field.name not in frame.columns and not field.derived]
    if len(absent) == len(schema.fields):
        raise LogError(f"the frame has no field of the model, such as {absent[0]!r}")
    complete = frame.with_columns(pl.lit(None).alias(name) for name in absent)
    return frame_fields(complete, Position(Path("frame"), 0), schema)


def frame_fields(frame: pl.DataFrame, position: Position, schema: FeatureSchema) -> dict[str, pl.Series]:
    """Return the fields' columns of a frame that has them, but those that derive from the time, which it may have instead.

    Raises:
        LogError: a value is not of its field's kind.
    """
    split = schema.split
    sources = [column for column in (split.column, split.clock) if column is not None]
    is_timed = bool(sources) and set(sources) <= set(frame.columns)
    times = read_times(frame, schema) if is_timed else pl.Series([None] * frame.height, dtype=MOMENT)
    return canonical_fields(frame, position, schema, times)


class RawFrame(NamedTuple):
    """Some rows of a file as they are there, and the place of the first."""

    frame: pl.DataFrame
    position: Position


class FrameFile:
    """One file of a log, opened for reading.

    Args:
        path: of the file.
        log: how delimited text is read.
        columns: that must be there; they are read.
        if_there: columns that are read where the file has them.

    Raises:
        LogError: it cannot be opened, or lacks one of ``columns``.
    """

    def __init__(self, path: Path, log: LogFormat, columns: Sequence[str], if_there: Sequence[str] = ()) -> None:
        self.path = path
        lazy = scan_file(path, log)
        present = lazy.collect_schema().names()
        absent = [name for name in columns if name not in present]
        if absent:
            names = ", ".join(repr(name[:64]) for name in present[:50])
            raise LogError(f"{path}: column {absent[0]!r} is missing, the file has {names}")
        self.columns = tuple(dict.fromkeys([*columns, *(name for name in if_there if name in present)]))
        self._lazy = lazy.select(self.columns)

    def count_rows(self) -> int:
        """Return the number of rows; errors as in `read`."""
        try:
            return int(self._lazy.select(pl.len()).collect().item())
        except UNREADABLE as error:
            raise LogError(f"{self.path}: cannot be read: {first_line(error)}") from error

    def rows(self, start: int, count: int) -> pl.DataFrame:
        """Return some rows, fewer where the file ends before.

        Raises:
            LogError: the file cannot be read, or has no row there.
        """
        try:
            frame = self._lazy.slice(start, count).collect()
        except UNREADABLE as error:
            raise LogError(f"{self.path}: cannot be read: {first_line(error)}") from error
        if not frame.height:
            raise LogError(f"{self.path}: has no row {start}")
        return frame

    def read(self, start: int = 0) -> Iterator[RawFrame]:
        """Yield the rows from ``start`` on, in order, some at a time.

        Raises:
            LogError: the file cannot be read.
        """
        position = Position(self.path, start)
        try:
            for frame in self._lazy.slice(start).collect_batches(chunk_size=CHUNK_ROWS, maintain_order=True):
                yield RawFrame(frame, position)
                position = Position(self.path, position.first_row + frame.height)
        except UNREADABLE as error:
            raise LogError(f"{self.path}: cannot be read: {first_line(error)}") from error
