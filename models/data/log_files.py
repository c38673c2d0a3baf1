"""Finds and opens the files of a log, in any format. `models.data.impressions` reads their rows."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

import polars as pl

from models.data.text_format import FileKind, kind_of
from models.errors import LogError
from models.schema.feature_schema import LogFormat

UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)  # polars' panic is not an Exception
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


def find_files(patterns: Sequence[str]) -> list[Path]:
    """Return the files that paths, folders and glob patterns match, each once, sorted within a pattern.

    A folder is all files below it. Empty files, and those that a pattern or a folder has beside the data, whose names begin
    with ``_`` or a dot (such as ``_SUCCESS``), are passed over.

    Raises:
        LogError: a pattern matches no file with content.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        path = Path(pattern)
        if path.is_file():
            found[path] = None
            continue
        names = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207  # patterns may be absolute
        under = [p for name in names for p in (sorted(Path(name).rglob("*")) if Path(name).is_dir() else [Path(name)])]
        files = [p for p in under if p.is_file() and not p.name.startswith(("_", ".")) and p.stat().st_size]
        if not files:
            raise LogError(f"{pattern}: {'no file with content' if names else 'no such file'}")
        found |= dict.fromkeys(files)
    return list(found)


def is_text(path: Path) -> bool:
    """Whether a log file is delimited text, whose columns have no types."""
    return _kind(path).kind == "delimited"


def scan_file(path: Path, log: LogFormat) -> pl.LazyFrame:
    """Open one file lazily; all columns of a text file are String, and so are those in the names of its folders (hive).

    Raises:
        LogError: unknown file type, an empty or unreadable file, or a header that is none or names a column twice.
    """
    try:
        lazy = _scan(path, log)
        present = lazy.collect_schema().names()
        if is_text(path):
            _check_header(path, log, present)
    except UNREADABLE as error:
        raise LogError(f"{path}: cannot be read: {first_line(error)}") from error
    partition = {name: value for name, value in _partition(path).items() if name not in present}
    return lazy.with_columns(pl.lit(value, dtype=pl.String).alias(name) for name, value in partition.items())


def json_columns(files: Sequence[Path]) -> frozenset[str]:
    """Return the keys of all JSON files of a log: where a line or a file lacks one, it is null.

    Raises:
        LogError: a file cannot be read.
    """
    json = [path for path in files if _kind(path).kind == "json"]
    return (
        frozenset(name for path in json for name in scan_file(path, LogFormat()).collect_schema())
        if len(json) > 1
        else frozenset()
    )


def with_columns(path: Path, lazy: pl.LazyFrame, names: frozenset[str]) -> pl.LazyFrame:
    """Return a JSON file with the columns that only other files of the log have, all null; any other file as it is."""
    if _kind(path).kind != "json":
        return lazy
    present = lazy.collect_schema().names()
    return lazy.with_columns(pl.lit(None).alias(name) for name in sorted(names) if name not in present)


def _scan(path: Path, log: LogFormat) -> pl.LazyFrame:
    kind = _kind(path)
    if kind.kind == "parquet":
        return pl.scan_parquet(path, hive_partitioning=False)
    if kind.kind == "json":
        found = path.stat()
        return pl.scan_ndjson(path, schema=_json_schema(path, found.st_size, found.st_mtime_ns))
    return pl.scan_csv(
        path,
        separator=log.separator or kind.separator,
        has_header=log.columns is None,
        new_columns=log.columns,
        null_values=list(log.null_values),
        infer_schema=False,
        quote_char='"' if log.columns is None and log.quoted else None,
    )


@lru_cache(maxsize=1_000)
def _json_schema(path: Path, num_bytes: int, modified_ns: int) -> pl.Schema:
    # Every line has its say, so the whole file is parsed: once for a file of this size and time.
    return pl.scan_ndjson(path, infer_schema_length=None).collect_schema()


def _kind(path: Path) -> FileKind:
    try:
        return kind_of(path)
    except OSError as error:
        raise LogError(f"{path}: cannot be read: {first_line(error)}") from error


def _partition(path: Path) -> dict[str, str | None]:
    """Return the columns that the names of a file's folders give it, as in ``date=2024-06-01``."""
    pairs = [part.split("=", 1) for part in path.parts[:-1] if "=" in part]
    return {name: None if value == HIVE_NULL else unquote(value) for name, value in pairs if name}


def _check_header(path: Path, log: LogFormat, present: Sequence[str]) -> None:
    # Polars would rename the second column of a name, and the schema would silently get the first.
    if log.columns is None:
        separator = log.separator or _kind(path).separator
        quote = '"' if log.quoted else None
        header = pl.scan_csv(
            path, separator=separator, has_header=False, n_rows=1, infer_schema=False, quote_char=quote
        )
        names, place = header.collect().row(0), "the header"
        numbers = [name for name in names if name is not None and _is_number(name)]
        is_counted = [*names] == [str(i) for i in range(len(names))]  # as pandas names columns
        if numbers and not is_counted and (2 * len(numbers) >= len(names) or len(set(names)) < len(names)):
            got = ", ".join(repr((name or "")[:32]) for name in names[:5])
            raise LogError(
                f"{path}: no header line, the first line is {got} …: name the columns in the schema's [log] columns"
            )
    else:
        names, place = log.columns, "the schema's log.columns"
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise LogError(f"{path}: column {name[:64]!r}: is named twice in {place}")
        if name:
            seen.add(name)
    if log.columns is not None and len(log.columns) != len(present):
        raise LogError(f"{path}: has {len(present)} columns, but log.columns names {len(log.columns)}")


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


def first_line(error: BaseException) -> str:
    """Return the first line of an error message, at most 300 characters."""
    return str(error).strip().split("\n", 1)[0][:300]
