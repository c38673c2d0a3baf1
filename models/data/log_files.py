"""Finds and opens the files of a log, delimited text or Parquet. `models.data.impressions` reads their rows."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from models.errors import LogError
from models.schema.feature_schema import LogFormat

UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)  # polars' panic is not an Exception
TEXT_SUFFIXES = {".csv": ",", ".tsv": "\t", ".txt": "\t"}


def find_files(patterns: Sequence[str]) -> list[Path]:
    """Return the files that paths and glob patterns match, each once, sorted within a pattern.

    Raises:
        LogError: a pattern matches no file.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        names = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207  # patterns may be absolute
        files = [Path(name) for name in names or [pattern] if Path(name).is_file()]
        if not files:
            raise LogError(f"{pattern}: {'no regular file' if names else 'no such file'}")
        found |= dict.fromkeys(files)
    return list(found)


def is_text(path: Path) -> bool:
    """Whether a log file is delimited text, whose columns have no types."""
    return path.suffix not in {".parquet", ".pq"}


def scan_file(path: Path, log: LogFormat) -> pl.LazyFrame:
    """Open one file lazily; all columns of a text file are String.

    Raises:
        LogError: unknown file type, an empty or unreadable file, or a header that names a column twice.
    """
    try:
        if not is_text(path):
            lazy = pl.scan_parquet(path)
        elif path.suffix in TEXT_SUFFIXES or log.separator is not None:
            lazy = pl.scan_csv(
                path,
                separator=log.separator or TEXT_SUFFIXES[path.suffix],
                has_header=log.columns is None,
                new_columns=log.columns,
                null_values=list(log.null_values),
                infer_schema=False,
                quote_char='"' if log.columns is None else None,
            )
        else:
            raise LogError(f"{path}: unknown file type, expected .csv, .tsv, .txt or .parquet")
        lazy.collect_schema()
        if is_text(path):
            _refuse_doubled_columns(path, log)
    except UNREADABLE as error:
        raise LogError(f"{path}: cannot be read: {first_line(error)}") from error
    return lazy


def _refuse_doubled_columns(path: Path, log: LogFormat) -> None:
    # Polars would rename the second column, and the schema would silently get the first.
    names: Sequence[str | None]
    if log.columns is None:
        separator = log.separator or TEXT_SUFFIXES[path.suffix]
        header = pl.scan_csv(path, separator=separator, has_header=False, n_rows=1, infer_schema=False).collect()
        names, place = header.row(0), "the header"
    else:
        names, place = log.columns, "the schema's log.columns"
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise LogError(f"{path}: column {name[:64]!r}: is named twice in {place}")
        if name:
            seen.add(name)


def first_line(error: BaseException) -> str:
    """Return the first line of an error message, at most 300 characters."""
    return str(error).strip().split("\n", 1)[0][:300]
