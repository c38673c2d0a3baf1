"""Takes a typed sample of a log, for inference: a column's type is the widest that it has in any file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from models.data.columns import as_number, plain, to_floats
from models.data.log_files import UNREADABLE, first_line, is_text, json_columns, scan_file, with_columns
from models.data.text_format import sniff
from models.errors import LogError
from models.features.token_spelling import BOOLEANS
from models.schema.feature_schema import LogFormat

SAMPLE_ROWS = 200_000
SAMPLE_FILES = 8
SAMPLE_SLICES = 8
"""Slices that the sample of one Parquet file is made of."""
NULL_WORDS = (
    "NA",
    "N/A",
    "n/a",
    "NaN",
    "nan",
    "null",
    "NULL",
    "Null",
    "None",
    "none",
    "\\N",
    "-",
    "?",
    "(null)",
    "#N/A",
)
"""Texts that are nulls where all other values of a column are numbers."""
TRUTH = (*BOOLEANS, *BOOLEANS.values())
COMMA_NUMBER = r"^-?\d{1,3}(\.?\d{3})*,\d+$"


@dataclass(frozen=True)
class Sample:
    """Rows from the whole log.

    Args:
        frame: their columns; text that is numbers or truth values in the whole log is typed so.
        log: how text is read.
        whole: names of the columns whose numbers are all whole, in the whole log.
    """

    frame: pl.DataFrame
    log: LogFormat
    whole: frozenset[str]


def read_sample(files: Sequence[Path], label: str) -> Sample:
    """Sample a log, and look at every row of it where the sample cannot tell what a column is.

    Raises:
        LogError: a file cannot be read.
    """
    log = next((sniff(path) for path in files if is_text(path)), LogFormat())
    places = np.unique(np.linspace(0, len(files) - 1, min(len(files), SAMPLE_FILES)).round().astype(int))
    keys = json_columns(files)
    raw = _concat([_some_rows(files[i], log, keys, SAMPLE_ROWS // len(places)) for i in places])
    names = [c for c in raw.columns if c != label and raw[c].dtype == pl.String]
    log = log.model_copy(update={"decimal_comma": any(_has_comma(raw[c]) for c in names)})
    likely = {c: _likely_type(raw[c], log) for c in raw.columns if c != label}
    census = Census.of(files, log, [c for c, dtype in likely.items() if dtype is not None and dtype.is_numeric()])
    nulls = tuple(sorted({word for words in census.odd.values() for word in words if words <= set(NULL_WORDS)}))
    log = log.model_copy(update={"null_values": nulls})
    columns = []
    for column in raw.iter_columns():
        dtype = likely.get(column.name)
        is_odd = not census.odd.get(column.name, set()) <= set(NULL_WORDS)
        columns.append(column if dtype is None or is_odd else _cast(plain(column, nulls), dtype, log))
    return Sample(pl.DataFrame(columns), log, census.whole)


@dataclass(frozen=True)
class Census:
    """What all rows of a log hold in columns of numbers.

    Args:
        odd: by column, some values that are no numbers.
        whole: columns whose numbers are all whole.
    """

    odd: dict[str, set[str]]
    whole: frozenset[str]

    @classmethod
    def of(cls, files: Sequence[Path], log: LogFormat, names: Sequence[str]) -> Census:
        """Count in every file; errors as in `read_sample`."""
        odd: dict[str, set[str]] = {}
        fractional: set[str] = set()
        for path in files:
            try:
                lazy = scan_file(path, log)
                schema = lazy.collect_schema()
                here = [name for name in names if name in schema]
                numbers = {name: as_number(name, schema[name], decimal_comma=log.decimal_comma) for name in here}
                texts = [name for name in here if not schema[name].is_numeric() and schema[name] != pl.Boolean]
                parts = [(x.is_finite() & (x != x.round())).any().alias(f"f{name}") for name, x in numbers.items()]
                for name in texts:
                    text = pl.col(name).cast(pl.String)
                    is_odd = numbers[name].is_null() & text.is_not_null() & (text != "")
                    parts.append(text.filter(is_odd).unique().head(100).implode().alias(f"o{name}"))
                found = lazy.select(parts).collect(engine="streaming").row(0, named=True) if parts else {}
            except UNREADABLE as error:
                raise LogError(f"{path}: cannot be read: {first_line(error)}") from error
            fractional |= {name for name in here if found[f"f{name}"]}
            for name in texts:
                odd.setdefault(name, set()).update(found[f"o{name}"] or [])
        return cls({name: words for name, words in odd.items() if words}, frozenset(names) - fractional)


def _some_rows(path: Path, log: LogFormat, keys: frozenset[str], num_rows: int) -> pl.DataFrame:
    """Return the first rows of a text file, or as many rows of another file in slices spread over it."""
    try:
        lazy = with_columns(path, scan_file(path, log), keys)
        if is_text(path):
            return _plain(lazy.head(num_rows).collect())
        num_all = lazy.select(pl.len()).collect().item()
        if num_all <= num_rows:
            return _plain(lazy.collect())
        length = num_rows // SAMPLE_SLICES
        starts = np.linspace(0, num_all - length, SAMPLE_SLICES).astype(int).tolist()
        return _plain(pl.concat([lazy.slice(start, length) for start in starts]).collect())
    except UNREADABLE as error:
        raise LogError(f"{path}: cannot be read: {first_line(error)}") from error


def _plain(frame: pl.DataFrame) -> pl.DataFrame:
    return pl.DataFrame([_to_common(plain(column)) for column in frame.iter_columns()])


def _to_common(column: pl.Series) -> pl.Series:
    # One type for all that hold the same values.
    dtype = column.dtype
    if isinstance(dtype, pl.Decimal):
        whole = column.cast(pl.Int64, strict=False)
        return whole if dtype.scale == 0 and whole.null_count() == column.null_count() else column.cast(pl.Float64)
    if dtype.is_integer() and dtype != pl.UInt64:
        return column.cast(pl.Int64)
    if dtype.is_float():
        return column.cast(pl.Float64).fill_nan(None)
    if isinstance(dtype, pl.Datetime):
        zoned = dtype.time_zone is not None
        return (column.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if zoned else column).cast(
            pl.Datetime("us")
        )
    return column


def _concat(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    # Files without a column of the first are refused when the log is read, with their names.
    names = frames[0].columns
    fitting = [frame.select(names) for frame in frames if set(names) <= set(frame.columns)]
    columns = []
    for name in names:
        parts = [frame[name] for frame in fitting]
        dtypes = {part.dtype for part in parts} - {pl.Null}
        if len(dtypes) > 1:
            wide = pl.Float64 if all(d.is_numeric() for d in dtypes) else pl.String
            parts = [part.cast(wide, strict=False) for part in parts]
        elif dtypes:
            parts = [part.cast(next(iter(dtypes))) for part in parts]
        columns.append(pl.concat(parts))
    return pl.DataFrame(columns)


def _has_comma(texts: pl.Series) -> bool:
    """Whether a text column holds numbers with a decimal comma, and no others that have a fraction."""
    known = texts.drop_nulls()
    is_comma = known.str.contains(COMMA_NUMBER)
    return bool(is_comma.any()) and bool((is_comma | known.str.contains(r"^-?\d+$")).all())


def _likely_type(column: pl.Series, log: LogFormat) -> pl.DataType | None:
    """Return the type of a column's values: the one that it has if it is not text; ``None`` for text that is only text."""
    if column.dtype != pl.String:
        return column.dtype
    known = column.drop_nulls()
    known = known.filter(~known.is_in(NULL_WORDS))
    if not len(known) or known.str.contains(r"^-?0[0-9]").any():
        return None
    if known.is_in(TRUTH).all():
        return pl.Boolean()
    numbers = to_floats(known, decimal_comma=log.decimal_comma)
    if numbers.null_count():
        return None
    whole = known.str.contains(r"^-?[0-9]+(\.0+)?$").all()
    fits = known.str.replace(r"\.0+$", "").cast(pl.Int64, strict=False).null_count() == 0
    return None if whole and not fits else pl.Int64() if whole else pl.Float64()


def _cast(column: pl.Series, dtype: pl.DataType, log: LogFormat) -> pl.Series:
    if column.dtype != pl.String:
        return column
    if dtype == pl.Boolean:
        return column.replace_strict(
            {word: word.lower() == "true" for word in TRUTH}, default=None, return_dtype=pl.Boolean
        )
    numbers = to_floats(column, decimal_comma=log.decimal_comma)
    exact = column.str.strip_chars().str.replace(r"\.0+$", "").cast(pl.Int64, strict=False)
    return exact if dtype == pl.Int64 and exact.null_count() == numbers.null_count() else numbers.fill_nan(None)
