"""The typed reading of a column: raw values of any type → labels, numbers, tokens, lists of tokens or moments.

The same rules hold for every format of a log and for a request (`models.features.token_spelling`, `models.features.moments`):
an empty text is a null, a number that is not finite is a null, and one value has one spelling however its column is typed.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.datatypes import DataTypeClass

from models.data.moments import parse_clocks, parse_moments
from models.errors import LogError
from models.features.token_spelling import MAX_TOKEN_CHARS
from models.schema.feature_schema import FeatureSchema, FieldSpec

EXACT = 2**53
"""Whole numbers above this are not all floats."""
TRUTH = {
    "0": 0,
    "1": 1,
    "+1": 1,
    "-1": -1,
    "0.0": 0,
    "1.0": 1,
    "-1.0": -1,
    "true": 1,
    "false": 0,
    "t": 1,
    "f": 0,
    "yes": 1,
    "no": 0,
    "y": 1,
    "n": 0,
}
TOKEN_TYPES = (pl.String, pl.Boolean, pl.Categorical, pl.Enum, pl.Binary, pl.Date, pl.Datetime, pl.Time, pl.Null)


class Position(NamedTuple):
    """File and number of a chunk's first row, for error messages."""

    path: Path
    first_row: int


def can_be_token(dtype: pl.DataType | DataTypeClass) -> bool:
    """Whether values of a column type can be tokens."""
    return dtype.is_numeric() or isinstance(dtype, pl.Decimal) or dtype in TOKEN_TYPES


def plain(series: pl.Series, log_nulls: tuple[str, ...] = ()) -> pl.Series:
    """Return a column with the types that hold text as String, fixed-size lists as lists, and an empty text as null.

    Raises:
        LogError: bytes are not UTF-8.
    """
    dtype = series.dtype
    if dtype in (pl.Binary, pl.Categorical, pl.Enum):
        try:
            series = series.cast(pl.String)
        except pl.exceptions.ComputeError as error:
            raise LogError(f"column {series.name!r}: holds bytes that are not UTF-8") from error
    elif isinstance(dtype, pl.Array):
        series = series.cast(pl.List(dtype.inner))
    if series.dtype == pl.String and (log_nulls or series.str.len_bytes().min() == 0):
        series = series.set(series.is_in(["", *log_nulls]).fill_null(value=False), None)
    return series


def read_labels(series: pl.Series, position: Position, positive: str | None, *, may_be_null: bool = False) -> pl.Series:
    """Return labels as Int8: 1 for a click, 0 or −1 for none; null only where that is allowed.

    Raises:
        LogError: a label is none of 0, 1, −1, true and false, and the schema does not say which value is a click.
    """
    if positive is not None:
        found = (series.cast(pl.String) == positive).cast(pl.Int8)
    elif series.dtype == pl.String:
        found = series.str.strip_chars().str.to_lowercase().replace_strict(TRUTH, default=None, return_dtype=pl.Int8)
    elif series.dtype.is_numeric() or series.dtype in (pl.Boolean, pl.Null):
        found = series.cast(pl.Float64, strict=False).fill_nan(None)
        found = found.set(~found.is_in([-1.0, 0.0, 1.0]).fill_null(value=True), None).cast(pl.Int8)
    else:
        raise LogError(f"{position.path}: column {series.name!r}: is {series.dtype}, expected labels 0 and 1")
    is_bad = found.is_null() & series.is_not_null() if may_be_null else found.is_null()
    wanted = "expected a label 0 or 1 (or write the value of a click as the schema's 'positive')"
    _refuse_bad(is_bad, series, position, wanted)
    return found


def read_counts(shown: pl.Series, clicks: pl.Series, position: Position) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how often each row was shown and clicked, int64 [B] each.

    Raises:
        LogError: a value is no whole number, or a row has more clicks than impressions.
    """
    counts = [to_floats(series, decimal_comma=False) for series in (shown, clicks)]
    for series, count in zip((shown, clicks), counts, strict=True):
        is_bad = count.is_null() | (count < 0) | (count != count.round())
        _refuse_bad(is_bad.fill_null(value=True), series, position, "expected a whole number from 0 on")
    _refuse_bad(
        counts[1] > counts[0], clicks, position, f"expected at most as many clicks as column {shown.name!r} says"
    )
    first, second = (count.cast(pl.Int64).to_numpy() for count in counts)
    return first, second


def read_numbers(series: pl.Series, position: Position, *, decimal_comma: bool) -> pl.Series:
    """Return numbers as Float64; what is not finite is null.

    Raises:
        LogError: a value is no number.
    """
    if isinstance(series.dtype, pl.Duration):
        series = series.dt.total_microseconds() / 1e6
    elif not (series.dtype.is_numeric() or series.dtype in (pl.String, pl.Boolean, pl.Null)):
        raise LogError(f"{position.path}: column {series.name!r}: is {series.dtype}, expected numbers")
    numbers = to_floats(series, decimal_comma=decimal_comma)
    if numbers.null_count() > series.null_count():
        _refuse_bad(numbers.is_null() & series.is_not_null(), series, position, "expected a number")
    # In numpy: polars' thread pool is busy reading the next rows.
    num_finite = np.count_nonzero(np.isfinite(numbers.to_numpy()))
    return numbers.set(~numbers.is_finite(), None) if num_finite < len(numbers) - numbers.null_count() else numbers


def to_floats(series: pl.Series, *, decimal_comma: bool) -> pl.Series:
    """Return values as Float64, null where a value is no number."""
    if not decimal_comma or series.dtype != pl.String:
        numbers = series.cast(pl.Float64, strict=False)
        if series.dtype != pl.String or numbers.null_count() == series.null_count():
            return numbers
    return series.to_frame().select(as_number(series.name, series.dtype, decimal_comma=decimal_comma)).to_series()


def as_number(name: str, dtype: pl.DataType, *, decimal_comma: bool) -> pl.Expr:
    """Return a column's values as Float64, null where a value is no number; blanks around a text do not count."""
    value = pl.col(name)
    if dtype == pl.String:
        value = value.str.strip_chars()
        if decimal_comma:
            value = value.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
    return value.cast(pl.Float64, strict=False)


def read_tokens(series: pl.Series, position: Position) -> pl.Series:
    """Return tokens as String, of at most `MAX_TOKEN_CHARS` characters; `models.data.token_index` spells them.

    Raises:
        LogError: values of this type cannot be tokens, or a float is too large to be exact.
    """
    if series.dtype == pl.String:
        is_long = len(series) and (series.str.len_bytes().max() or 0) > MAX_TOKEN_CHARS  # type: ignore[operator]
        return series.str.head(MAX_TOKEN_CHARS) if is_long else series
    if not can_be_token(series.dtype):
        expected = "tokens (strings or whole numbers)"
        raise LogError(f"{position.path}: column {series.name!r}: is {series.dtype}, expected {expected}")
    if series.dtype.is_float():
        known = series.fill_nan(None)
        _refuse_bad(
            known.abs() > EXACT, series, position, "expected a token, which a float of this size does not hold exactly"
        )
        if bool((known == known.round()).all()):
            known = known.cast(pl.Int64)
        return known.cast(pl.String)
    if isinstance(series.dtype, pl.Decimal):
        return series.cast(pl.String).str.replace(r"\.0+$", "")
    return series.cast(pl.String)


def read_sequences(series: pl.Series, position: Position, separator: str, field: FieldSpec) -> pl.Series:
    """Return lists of tokens as List(String), without nulls and empty texts, the last ``max_length`` of each.

    Raises:
        LogError: the column holds no lists of tokens.
    """
    if series.dtype == pl.String:
        series = split_texts(series, separator)
    if series.dtype == pl.Null:
        return series.cast(pl.List(pl.String))
    if not isinstance(series.dtype, pl.List):
        raise LogError(f"{position.path}: column {series.name!r}: is {series.dtype}, expected lists")
    inner = series.dtype.inner
    if not can_be_token(inner):
        raise LogError(f"{position.path}: column {series.name!r}: is {series.dtype}, expected lists of tokens")
    lists = series.list.drop_nulls().list.tail(field.max_length)
    flat = lists.explode(empty_as_null=True, keep_nulls=True)
    tokens = read_tokens(plain(flat), position)
    if inner == pl.String and tokens.null_count() == flat.null_count():
        return lists
    lengths = lists.list.len().fill_null(0).clip(lower_bound=1)
    row = pl.Series(np.repeat(np.arange(len(lists)), lengths.to_numpy()))
    by_row = pl.DataFrame({"row": row, "token": tokens}).group_by("row", maintain_order=True)
    return by_row.agg(pl.col("token").drop_nulls())["token"].alias(series.name)


def split_texts(texts: pl.Series, separator: str) -> pl.Series:
    """Return lists that are written as one text each, as List(String)."""
    if separator == ",":
        texts = texts.str.strip_chars().str.strip_prefix("[").str.strip_suffix("]")
        lists = texts.str.split(separator).list.eval(pl.element().str.strip_chars(" '\""))
    else:
        lists = texts.str.split(separator)
    return lists.list.eval(pl.element().filter(pl.element() != ""))


def read_times(raw: pl.DataFrame, schema: FeatureSchema) -> pl.Series:
    """Return what rows are ordered by: moments as Datetime, or numbers that only rise; null where a row has none.

    Raises:
        SchemaError: the column holds neither.
    """
    split = schema.split
    assert split.column is not None, "only a schema with a time has times"
    column = plain(raw[split.column], schema.log.null_values)
    if is_ordinal(column, split.format):
        return column.cast(pl.Float64, strict=False).fill_nan(None)
    days = parse_moments(column, split.format)
    if split.clock is None:
        return days
    clocks = parse_clocks(plain(raw[split.clock], schema.log.null_values))
    return (days.to_physical() + clocks).cast(days.dtype)


def is_ordinal(column: pl.Series, written: str | None) -> bool:
    """Whether a time column holds numbers without a format, which only say what comes after what."""
    if written is not None or column.dtype.is_temporal():
        return False
    if column.dtype != pl.String:
        return True
    first = column.drop_nulls().head(1)
    return bool(len(first)) and first.cast(pl.Float64, strict=False).null_count() == 0


def _refuse_bad(bad: pl.Series, series: pl.Series, position: Position, expected: str) -> None:
    bad = bad.fill_null(value=False)
    if bad.any():
        at = bad.arg_max()
        assert at is not None
        value = series[at].to_list() if isinstance(series[at], pl.Series) else series[at]
        got = "a null" if value is None else repr(value)[:64]
        raise LogError(
            f"{position.path}: row {position.first_row + at + 1}, column {series.name!r}: {expected}, got {got}"
        )
