"""Recognises the format of a log's files: by the name, else by the content; and how delimited text is written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, NamedTuple

import polars as pl

from models.errors import LogError
from models.schema.feature_schema import LogFormat

COMPRESSED = {".gz", ".zst", ".zstd"}
SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": "\t"}
LIBFFM = re.compile(r"[-+]?[01]( \d+:\d+:\S+)+ *|[-+]?[01]( \d+:[^:\s]+)+ *")
NUM_LINES = 200
UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException)


class FileKind(NamedTuple):
    """How a file is read.

    Args:
        kind: Parquet, JSON lines or delimited text.
        separator: of delimited text, unless the schema says another.
    """

    kind: Literal["parquet", "json", "delimited"]
    separator: str = ","


def kind_of(path: Path) -> FileKind:
    """Return the kind of a file.

    Raises:
        LogError: it is of no known kind.
        OSError: it cannot be read.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    suffix = next((s for s in reversed(suffixes) if s not in COMPRESSED), "")
    if suffix in (".parquet", ".pq"):
        return FileKind("parquet")
    if suffix in (".jsonl", ".ndjson", ".json"):
        return FileKind("json")
    if suffix in SEPARATORS:
        return FileKind("delimited", SEPARATORS[suffix])
    return _by_content(path)


def _by_content(path: Path) -> FileKind:
    with path.open("rb") as file:
        start = file.read(4)
    if start == b"PAR1":
        return FileKind("parquet")
    lines = first_lines(path)
    text = "".join(lines[:1]).lstrip()
    if text.startswith("{"):
        return FileKind("json")
    if lines and all(LIBFFM.fullmatch(line) for line in lines):
        raise LogError(
            f"{path}: is in the format of libffm or libsvm: convert it with: ctrserve convert {path} log.parquet"
        )
    separator = max(",\t;|", key=text.count)
    if not text or text.count(separator) == 0 or (not text.isprintable() and "\t" not in text):
        raise LogError(f"{path}: unknown file type, expected delimited text, JSON lines or Parquet")
    return FileKind("delimited", separator)


def first_lines(path: Path, num_lines: int = NUM_LINES) -> list[str]:
    """Return the first lines of a text file, decompressed; none if it is no text."""
    try:
        return _lines(path).head(num_lines).collect().get_column("line").fill_null("").to_list()
    except UNREADABLE:
        return []


def sniff(path: Path) -> LogFormat:
    """Return the separator of a text file's header, if its name does not imply it, and whether values are quoted.

    Raises:
        LogError: the file cannot be read.
    """
    kind = kind_of(path)
    if kind.kind != "delimited":
        return LogFormat()
    try:
        header = re.sub(r'"[^"]*"', "", "".join(first_lines(path, 1)))
        likeliest = max((kind.separator, ",", ";", "\t", "|", "\x01"), key=header.count)
        is_quoted = _is_quoted(path, likeliest)
    except (*UNREADABLE, OSError) as error:
        raise LogError(f"{path}: cannot be read: {str(error).strip().splitlines()[0][:300]}") from error
    return LogFormat(separator=None if likeliest == kind.separator else likeliest, quoted=is_quoted)


def _is_quoted(path: Path, separator: str) -> bool:
    """Whether double quotes enclose values; they do not if some lie within values, and reading them as quotes fails."""
    line, s = pl.col("line"), re.escape(separator)
    is_odd = line.str.count_matches('"', literal=True) % 2 == 1
    is_within = line.str.contains(f'(^|{s})[^"{s}]+"')
    if not _lines(path).select((is_odd | is_within).any()).collect(engine="streaming").item():
        return True
    try:
        pl.scan_csv(path, separator=separator, infer_schema=False).select(pl.all().null_count()).collect()
    except UNREADABLE:
        return False
    return True


def _lines(path: Path) -> pl.LazyFrame:
    # A separator that no text has: each line is one value.
    return pl.scan_csv(
        path, separator="\x1e", has_header=False, infer_schema=False, quote_char=None, new_columns=["line"]
    )
