"""Infers a feature schema from a log, with a reason for each decision, for a person to edit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from models.data.column_evidence import Evidence, is_moment, meaning_by_name, words_of
from models.data.log_files import TEXT_SUFFIXES, UNREADABLE, find_files, first_line, is_text, scan_file
from models.data.token_types import are_integers, can_be_token
from models.errors import LogError
from models.schema.feature_schema import FeatureSchema, FieldSpec, Kind, LogFormat, Side, Split

SAMPLE_ROWS = 200_000
SAMPLE_FILES = 8
SAMPLE_SLICES = 8
"""Slices that the sample of one Parquet file is made of."""
MANY_VALUES = 256
"""Integers with more distinct values than this can be quantities."""
MIN_SHARED = 10
"""A field's vocabulary must be larger than this to be shared with a sequence."""
SAME_TIME = 0.9
"""Rank correlation from which two time columns tell the same time."""
MIN_LISTS = 0.2
"""Share of a text column's values that must contain the list separator."""
SNIFFED_BYTES = 1 << 16
TIME_NAMES = frozenset({"time", "timestamp", "ts", "datetime", "date", "day", "event_time", "time_ms", "dt"})
GROUP_NAMES = ("userid", "uid", "user", "visitorid", "customerid", "deviceid", "sessionid")
CONTEXT_WORDS = frozenset({
    "user", "uid", "device", "hour", "weekday", "site", "app", "page", "query", "session", "country", "tab", "gender", "sex",
    "occupation", "os", "browser", "network", "referrer",
})  # fmt: skip


@dataclass(frozen=True)
class InferredSchema:
    """A schema, and the reason for each column's role, by name."""

    schema: FeatureSchema
    reasons: dict[str, str]


def infer_schema(patterns: Sequence[str], label: str) -> InferredSchema:
    """Infer a schema from a sample of up to eight of the log's files, spread over all of them.

    Raises:
        LogError: a file cannot be read, or has no column ``label`` or no other column that can be a field.
    """
    files = find_files(patterns)
    path = files[0]
    log = _format(path)
    frame = _sample(files, log)
    if label not in frame.columns:
        names = ", ".join(repr(name[:64]) for name in frame.columns[:50])
        raise LogError(f"{path}: column {label!r} is missing, the file has {names}")
    evidence = Evidence(_labels(frame[label]))
    times = [name for name in frame.columns if name != label and _is_time(frame[name])]
    # A log is usually sorted by the time that matters; of several such columns take the finest.
    time_column = max(times, key=lambda name: (frame[name].is_sorted(), frame[name].n_unique()), default=None)
    fields: list[FieldSpec] = []
    reasons: dict[str, str] = {}
    for name in frame.columns:
        if name in (label, time_column):
            continue
        if time_column is not None and name in times and _rises_with(frame[name], frame[time_column]):
            reasons[name] = f"left out: rises with {time_column!r}, so later rows have values that training never saw"
            continue
        field, reason = _infer_field(frame[name], evidence, log)
        reasons[name] = reason
        if field is not None:
            fields.append(field)
    if not fields:
        raise LogError(f"{path}: no column but {label!r} can be a field")
    fields = [_share(field, fields, frame, log, reasons) for field in fields]
    plain = {f.name.lower().replace("_", ""): f.name for f in reversed(fields) if f.kind == "categorical"}
    group = next((plain[want] for want in GROUP_NAMES if want in plain), None)
    if time_column is not None:
        reasons[time_column] = "the time that the rows are split by, not a field"
    split = Split(column=time_column)
    return InferredSchema(FeatureSchema(label=label, group=group, split=split, fields=tuple(fields), log=log), reasons)


def _format(path: Path) -> LogFormat:
    """Return the separator of a text file's header, if it is not the one that the file's suffix implies."""
    if not is_text(path) or path.suffix not in TEXT_SUFFIXES:
        return LogFormat()
    try:
        with path.open("rb") as file:
            header = re.sub(rb'"[^"]*"', b"", file.read(SNIFFED_BYTES).partition(b"\n")[0])
    except OSError as error:
        raise LogError(f"{path}: cannot be read: {first_line(error)}") from error
    expected = TEXT_SUFFIXES[path.suffix]
    likeliest = max((expected, ",", ";", "\t", "|"), key=lambda separator: header.count(separator.encode()))
    return LogFormat() if likeliest == expected else LogFormat(separator=likeliest)


def _labels(series: pl.Series) -> pl.Series:
    # Values other than 0 and 1 are refused when the log is read, with the row.
    if not (series.dtype.is_numeric() or series.dtype in (pl.Boolean, pl.String)):
        return pl.Series(np.zeros(len(series)))
    labels = series.cast(pl.Float64, strict=False).fill_null(0.0).fill_nan(0.0)
    return (labels == 1).cast(pl.Float64)


def _sample(files: Sequence[Path], log: LogFormat) -> pl.DataFrame:
    places = np.linspace(0, len(files) - 1, min(len(files), SAMPLE_FILES)).round().astype(int)
    first, *others = (_some_rows(files[i], log, SAMPLE_ROWS // len(places)) for i in np.unique(places))
    # Files with other columns are refused when the log is read, with their names.
    frame = pl.concat([first, *(other for other in others if other.schema == first.schema)])
    return frame.with_columns(_by_content(frame[c]) for c in frame.columns) if is_text(files[0]) else frame


def _some_rows(path: Path, log: LogFormat, num_rows: int) -> pl.DataFrame:
    """Return the first rows of a text file, or as many rows of a Parquet file in slices spread over it."""
    try:
        lazy = scan_file(path, log)
        if is_text(path):
            return lazy.head(num_rows).collect()
        num_all = lazy.select(pl.len()).collect().item()
        if num_all <= num_rows:
            return lazy.collect()
        length = num_rows // SAMPLE_SLICES
        starts = np.linspace(0, num_all - length, SAMPLE_SLICES).astype(int).tolist()
        return pl.concat([lazy.slice(start, length) for start in starts]).collect()
    except UNREADABLE as error:
        raise LogError(f"{path}: cannot be read: {first_line(error)}") from error


def _by_content(series: pl.Series) -> pl.Series:
    # Cast a text column to integers or floats if all of its values are.
    filled = series.drop_nulls()
    if are_integers(filled):
        return series.cast(pl.Int64)
    numbers = filled.cast(pl.Float64, strict=False)
    leading_zeros = bool(filled.str.contains(r"^-?0[0-9]").any())
    return series if numbers.null_count() or leading_zeros else series.cast(pl.Float64)


def _is_time(series: pl.Series) -> bool:
    if series.null_count() or isinstance(series.dtype, pl.List):
        return False
    return series.dtype.is_temporal() or series.name.lower() in TIME_NAMES or is_moment(series)


def _rises_with(series: pl.Series, time: pl.Series) -> bool:
    """Whether a column rises with the time."""
    ranks = np.stack([column.rank().to_numpy() for column in (series, time)])
    return bool(np.corrcoef(ranks)[0, 1] > SAME_TIME)


def _infer_field(series: pl.Series, evidence: Evidence, log: LogFormat) -> tuple[FieldSpec | None, str]:
    kind, reason = _infer_kind(series, evidence, log)
    if kind is None:
        return None, f"left out: {reason}"
    if kind != "sequence" and evidence.predicts_the_label(series):
        return None, "left out: predicts the label almost perfectly, so it was written when the label was known"
    words = words_of(series.name)
    is_context = words & CONTEXT_WORDS or any(word.startswith(("user", "device")) for word in words)
    side: Side = "context" if is_context else "candidate"
    return FieldSpec(name=series.name, kind=kind, side=side), f"{kind}: {reason}"


def _infer_kind(series: pl.Series, evidence: Evidence, log: LogFormat) -> tuple[Kind | None, str]:
    # The kind of a column, or None, and why.
    dtype, values = series.dtype, series.drop_nulls()
    distinct = values.n_unique()
    identifies_rows = distinct > 0.95 * len(series)
    if distinct == 0 or (distinct == 1 and not series.null_count()):
        return None, "one value only"
    if isinstance(dtype, pl.List):
        if dtype.inner.is_numeric() or can_be_token(dtype.inner):
            return "sequence", "holds lists"
        return None, f"{dtype} holds no tokens"
    if dtype == pl.String and _holds_lists(values, log):
        return "sequence", f"tokens separated by {log.list_separator!r}"
    if dtype in (pl.String, pl.Categorical):
        if identifies_rows:
            return None, f"{distinct:,} different strings in {len(series):,} rows identify the row"
        return "categorical", f"{distinct:,} different strings"
    if dtype == pl.Boolean:
        return "categorical", "true or false"
    if not dtype.is_numeric():
        return None, f"{dtype} is not supported"
    is_whole = dtype.is_integer() or bool((values == values.round()).all())
    meaning = meaning_by_name(series.name)
    if is_whole and (distinct <= MANY_VALUES or meaning == "id" or (meaning is None and evidence.are_ids(series))):
        if identifies_rows:
            return None, f"{distinct:,} different numbers in {len(series):,} rows identify the row"
        return "categorical", f"{distinct:,} different whole numbers"
    return "numeric", f"{distinct:,} different numbers"


def _holds_lists(texts: pl.Series, log: LogFormat) -> bool:
    """Whether many texts are lists, of tokens that occur more than once."""
    if texts.str.contains(log.list_separator, literal=True).mean() < MIN_LISTS:  # type: ignore[operator]
        return False
    tokens = texts.str.split(log.list_separator).explode()
    return tokens.n_unique() <= 0.5 * len(tokens)


def _share(
    field: FieldSpec, fields: list[FieldSpec], frame: pl.DataFrame, log: LogFormat, reasons: dict[str, str]
) -> FieldSpec:
    """Let a sequence share the vocabulary of the field with the most similar set of tokens."""
    if field.kind != "sequence":
        return field
    column = frame[field.name]
    lists = column.str.split(log.list_separator) if column.dtype == pl.String else column
    tokens = lists.explode().unique().drop_nulls().cast(pl.String)
    best, owner = 0.0, None
    for other in fields:
        if other.kind == "categorical" and len(tokens):
            values = frame[other.name].drop_nulls()
            known = values.cast(pl.Int64 if values.dtype.is_float() else pl.String).cast(pl.String).unique()
            num_shared = int(tokens.is_in(known.implode()).sum())
            similarity = num_shared / (len(tokens) + len(known) - num_shared)
            if num_shared >= 0.5 * len(tokens) and len(known) > MIN_SHARED and similarity > best:
                best, owner = similarity, other.name
    if owner is None:
        return field
    reasons[field.name] = f"sequence: shares the tokens of {owner!r}"
    return field.model_copy(update={"vocabulary": owner})
