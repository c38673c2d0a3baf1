"""Reads click logs and splits them by time. Every fault names file, row and column.

A log in memory is one frame: the label as Int8, tokens as String (integers in decimal), numbers as Float64,
sequences as List(String), rows in time order where the schema says what time is.
"""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.errors import LogError, SchemaError
from models.schema import FeatureSchema, FieldSpec, LogFormat, TokenType

TEXT_SUFFIXES = {".csv": ",", ".tsv": "\t", ".txt": "\t"}


@dataclass(frozen=True)
class Log:
    """A whole log.

    Args:
        frame: as the module's docstring says.
        dtypes: the type on the wire of each field with tokens.
        files: names of the files read, without their folders.
    """

    frame: pl.DataFrame
    dtypes: dict[str, TokenType]
    files: tuple[str, ...]


@dataclass(frozen=True)
class Parts:
    """Row numbers of each part, int64, in the log's order; ``test`` may be empty."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def find_files(patterns: Sequence[str]) -> list[Path]:
    """Return the files that paths and glob patterns name, sorted, each once.

    Raises:
        LogError: a pattern names no file.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        names = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207  # patterns may be absolute
        names = names or ([pattern] if Path(pattern).is_file() else [])
        if not names:
            raise LogError(f"{pattern}: no such file")
        found |= {Path(name): None for name in names if Path(name).is_file()}
    return list(found)


def is_text(path: Path) -> bool:
    """Whether a log file is delimited text, whose columns have no types of their own."""
    return path.suffix not in {".parquet", ".pq"}


def scan_file(path: Path, log: LogFormat) -> pl.LazyFrame:
    """Open one file lazily; text files give String columns only.

    Raises:
        LogError: unknown file type, or an empty or unreadable file.
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
    except (pl.exceptions.PolarsError, OSError) as error:
        raise LogError(f"{path}: cannot be read: {_first_line(error)}") from error
    return lazy


def read_log(patterns: Sequence[str], schema: FeatureSchema) -> Log:
    """Read all files of a log into memory, checked.

    Raises:
        LogError: a missing column, a label other than 0 and 1, one class only, no rows, a value that is not of its
            field's kind, or a column whose type differs between files.
    """
    files = find_files(patterns)
    frames: list[pl.DataFrame] = []
    types: dict[str, tuple[TokenType, Path]] = {}
    for path in files:
        raw = _collect(path, schema)
        frames.append(_canonical(raw, path, schema))
        for name, dtype in ({} if is_text(path) else _token_types(raw, schema)).items():
            first, where = types.setdefault(name, (dtype, path))
            if first != dtype:
                raise LogError(f"{path}: column {name!r}: holds {dtype} tokens, but {where} has {first} ones")
    frame = pl.concat(frames)
    if not frame.height:
        raise LogError(f"{files[0]}: the log has no rows")
    if frame[schema.label].n_unique() < 2:
        raise LogError(f"column {schema.label!r}: every label is {frame[schema.label][0]}, expected both 0 and 1")
    if schema.split.column is not None:
        if frame[schema.split.column].null_count():
            raise LogError(f"column {schema.split.column!r}: the split column holds nulls")
        frame = frame.sort(schema.split.column, maintain_order=True)
    stated = {name: dtype for name, (dtype, _) in types.items()}
    return Log(frame, _decide_types(frame, schema, stated), tuple(path.name for path in files))


def split_log(frame: pl.DataFrame, schema: FeatureSchema, seed: int) -> Parts:
    """Divide rows into training, validation and test as the schema says, oldest first, or at random by ``seed``.

    Raises:
        SchemaError: a part that training needs would be empty or hold one class only.
    """
    split, n = schema.split, frame.height
    rank = np.arange(n)
    if split.column is None and not split.by_order:
        rank = np.random.default_rng(seed).permutation(n)
    if split.validation_from is not None and split.column is not None:
        validation_at = _first_row_from(frame[split.column], split.validation_from)
        test_at = n if split.test_from is None else _first_row_from(frame[split.column], split.test_from)
    else:
        test_at = round(n * (1 - split.test_fraction))
        validation_at = round(n * (1 - split.test_fraction - split.validation_fraction))
        if split.column is not None:  # rows of one moment stay together
            test_at, validation_at = (
                _first_row_from(frame[split.column], frame[split.column][at]) if at < n else n
                for at in (test_at, validation_at)
            )
    parts = Parts(
        *(
            np.flatnonzero((rank >= a) & (rank < b))
            for a, b in ((0, validation_at), (validation_at, test_at), (test_at, n))
        )
    )
    labels = frame[schema.label].to_numpy()
    for name, rows in (("training", parts.train), ("validation", parts.validation)):
        if len(rows) == 0 or not 0 < int(labels[rows].sum()) < len(rows):
            raise SchemaError(
                f"split: the {name} part has {len(rows)} rows and {int(labels[rows].sum())} clicks, expected both labels"
            )
    return parts


def _collect(path: Path, schema: FeatureSchema) -> pl.DataFrame:
    lazy = scan_file(path, schema.log)
    present = lazy.collect_schema().names()
    absent = [c for c in schema.columns if c not in present]
    if absent:
        raise LogError(f"{path}: column {absent[0]!r} is missing, the file has {', '.join(map(repr, present[:50]))}")
    try:
        return lazy.select(schema.columns).collect()
    except pl.exceptions.PolarsError as error:
        raise LogError(f"{path}: cannot be read: {_first_line(error)}") from error


def _canonical(raw: pl.DataFrame, path: Path, schema: FeatureSchema) -> pl.DataFrame:
    columns = {schema.label: _labels(raw[schema.label], path)}
    for field in schema.fields:
        series = raw[field.name]
        if field.kind == "numeric":
            columns[field.name] = _numbers(series, path)
        elif field.kind == "sequence":
            columns[field.name] = _sequences(series, path, schema.log.list_separator, field)
        else:
            columns[field.name] = _tokens(series, path)
    for name in (schema.group, schema.split.column):
        if name is not None and name not in columns:
            series = raw[name]
            numbers = series.cast(pl.Int64, strict=False) if series.dtype == pl.String else series
            columns[name] = numbers if numbers.null_count() == series.null_count() else series
    return pl.DataFrame(columns)


def _labels(series: pl.Series, path: Path) -> pl.Series:
    labels = series.cast(pl.Float64, strict=False)
    bad = labels.is_null() | ~labels.is_in([0.0, 1.0])
    _refuse(bad, series, path, "expected a label 0 or 1")
    return labels.cast(pl.Int8)


def _numbers(series: pl.Series, path: Path) -> pl.Series:
    if not (series.dtype.is_numeric() or series.dtype in (pl.String, pl.Boolean, pl.Null)):
        raise LogError(f"{path}: column {series.name!r}: is {series.dtype}, expected numbers")
    numbers = series.cast(pl.Float64, strict=False)
    _refuse(numbers.is_null() & series.is_not_null(), series, path, "expected a number")
    return numbers.fill_nan(None)


def _tokens(series: pl.Series, path: Path) -> pl.Series:
    if series.dtype.is_float():
        whole = series.fill_nan(None)
        _refuse(
            (whole != whole.round()) | (whole.abs() > 2**53),
            series,
            path,
            "expected a whole number as token; is this field numeric?",
        )
        series = whole.cast(pl.Int64)
    elif series.dtype == pl.Boolean:
        series = series.cast(pl.Int8)
    elif not (series.dtype.is_integer() or series.dtype in (pl.String, pl.Categorical, pl.Enum, pl.Date, pl.Null)):
        raise LogError(f"{path}: column {series.name!r}: is {series.dtype}, expected tokens (strings or whole numbers)")
    return series.cast(pl.String)


def _sequences(series: pl.Series, path: Path, separator: str, field: FieldSpec) -> pl.Series:
    if series.dtype == pl.String:
        series = series.str.split(separator).list.eval(pl.element().filter(pl.element() != ""))
    if series.dtype == pl.Null:
        return series.cast(pl.List(pl.String))
    if not isinstance(series.dtype, pl.List):
        raise LogError(f"{path}: column {series.name!r}: is {series.dtype}, expected lists")
    tokens = series.list.drop_nulls().list.tail(field.max_length)
    if not isinstance(series.dtype.inner, pl.String):
        lengths = tokens.list.len()
        flat = _tokens(tokens.explode(empty_as_null=False, keep_nulls=False), path)
        rows = pl.Series(np.repeat(np.arange(len(series)), lengths.fill_null(0).to_numpy()))
        grouped = pl.DataFrame({"row": rows, "t": flat}).group_by("row", maintain_order=True).agg("t")
        tokens = pl.DataFrame({"row": pl.Series(np.arange(len(series)))}).join(
            grouped, on="row", how="left", maintain_order="left"
        )["t"]
    return tokens.alias(series.name)


def _refuse(bad: pl.Series, series: pl.Series, path: Path, expected: str) -> None:
    at = bad.fill_null(value=False).arg_max() if bad.fill_null(value=False).any() else None
    if at is not None:
        got = "a null" if series[at] is None else repr(series[at])[:64]
        raise LogError(f"{path}: row {at + 1}, column {series.name!r}: {expected}, got {got}")


def _token_types(raw: pl.DataFrame, schema: FeatureSchema) -> dict[str, TokenType]:
    # The token types that a typed file states; a column of nulls only leaves it open.
    types: dict[str, TokenType] = {}
    for field in schema.fields:
        dtype = raw[field.name].dtype
        inner = dtype.inner if isinstance(dtype, pl.List) else dtype
        if field.kind != "numeric" and inner != pl.Null:
            types[field.name] = "integer" if inner.is_numeric() or inner == pl.Boolean else "string"
    return types


def _type_by_content(series: pl.Series) -> TokenType:
    flat = series.explode(empty_as_null=False, keep_nulls=False) if isinstance(series.dtype, pl.List) else series
    return "integer" if are_integers(flat) else "string"


def are_integers(tokens: pl.Series) -> bool:
    """Whether each token is the decimal spelling of an int64, so that ``str(int(token))`` gives it back unchanged."""
    distinct = tokens.drop_nulls().unique()
    return bool((distinct.cast(pl.Int64, strict=False).cast(pl.String) == distinct).fill_null(value=False).all())


def _decide_types(frame: pl.DataFrame, schema: FeatureSchema, stated: dict[str, TokenType]) -> dict[str, TokenType]:
    dtypes: dict[str, TokenType] = {}
    for field in schema.fields:
        if field.kind == "numeric":
            continue
        dtype = field.dtype or stated.get(field.name)
        if dtype != "string":
            by_content = _type_by_content(frame[field.name])
            if dtype == "integer" != by_content:
                raise LogError(
                    f"column {field.name!r}: holds tokens that are not whole numbers, expected 'integer' ones"
                )
            dtype = by_content
        dtypes[field.name] = dtype
    return dtypes


def _first_row_from(sorted_column: pl.Series, value: object) -> int:
    try:
        return int(sorted_column.search_sorted(pl.Series([value]).cast(sorted_column.dtype)[0], side="left"))
    except pl.exceptions.PolarsError as error:
        raise SchemaError(
            f"split: {value!r} cannot be compared with column {sorted_column.name!r} of {sorted_column.dtype}"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:300]
