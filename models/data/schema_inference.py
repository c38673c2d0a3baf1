"""Guesses a feature schema from a log, with a reason for each guess, for a person to edit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from models.data.column_evidence import Evidence, is_moment, nature_by_name, words_of
from models.data.impressions import are_integers, is_token
from models.data.log_files import TEXT_SUFFIXES, UNREADABLE, find_files, first_line, is_text, scan_file
from models.errors import LogError
from models.schema.feature_schema import FeatureSchema, FieldSpec, LogFormat, Split

SAMPLE_ROWS = 200_000
SAMPLE_FILES = 8
SAMPLE_SLICES = 8
MANY_VALUES = 256
MIN_SHARED = 10
ONE_TIME = 0.9
"""Rank correlation from which two columns tell the same time."""
LISTS = 0.2
"""Share of a column's texts that are lists, where it holds lists."""
SNIFFED_BYTES = 1 << 16
TIME_NAMES = {"time", "timestamp", "ts", "datetime", "date", "day", "event_time", "time_ms", "dt"}
GROUP_NAMES = ("userid", "uid", "user", "visitorid", "customerid", "deviceid", "sessionid")
CONTEXT_WORDS = {
    "user",
    "uid",
    "device",
    "hour",
    "weekday",
    "site",
    "app",
    "page",
    "query",
    "session",
    "country",
    "tab",
    "gender",
    "sex",
    "occupation",
    "os",
    "browser",
    "network",
    "referrer",
}


@dataclass(frozen=True)
class InferredSchema:
    """A schema, and why each field is what it is, by name."""

    schema: FeatureSchema
    reasons: dict[str, str]


def infer_schema(patterns: Sequence[str], label: str) -> InferredSchema:
    """Infer a schema from a sample of some of the log's files, spread over all of them.

    Raises:
        LogError: the file cannot be read, or has no column ``label`` or nothing to predict it from.
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
    # The log's own order is by the time that matters; of several the finest.
    time_column = max(times, key=lambda name: (frame[name].is_sorted(), frame[name].n_unique()), default=None)
    fields: list[FieldSpec] = []
    reasons: dict[str, str] = {}
    for name in frame.columns:
        if name in (label, time_column):
            continue
        if time_column is not None and name in times and _goes_with(frame[name], frame[time_column]):
            reasons[name] = f"left out: it goes with {time_column!r}, and never comes again"
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
        reasons[time_column] = "orders the rows in time: splits them, is no field"
    split = Split(column=time_column)
    return InferredSchema(FeatureSchema(label=label, group=group, split=split, fields=tuple(fields), log=log), reasons)


def _format(path: Path) -> LogFormat:
    """Return what separates the fields of a text file's header, where it is not what the file's name says."""
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
    # What is no label is refused when the log is read, in words that name its row.
    if not (series.dtype.is_numeric() or series.dtype in (pl.Boolean, pl.String)):
        return pl.Series(np.zeros(len(series)))
    labels = series.cast(pl.Float64, strict=False).fill_null(0.0).fill_nan(0.0)
    return (labels == 1).cast(pl.Float64)


def _sample(files: Sequence[Path], log: LogFormat) -> pl.DataFrame:
    places = np.linspace(0, len(files) - 1, min(len(files), SAMPLE_FILES)).round().astype(int)
    first, *others = (_some_rows(files[i], log, SAMPLE_ROWS // len(places)) for i in np.unique(places))
    # What is unlike the first is refused, with its name, when all is read.
    frame = pl.concat([first, *(other for other in others if other.schema == first.schema)])
    return frame.with_columns(_by_content(frame[c]) for c in frame.columns) if is_text(files[0]) else frame


def _some_rows(path: Path, log: LogFormat, num_rows: int) -> pl.DataFrame:
    """Return the first rows of a text file, or as many of a table file in slices from all over it."""
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
    # A text column whose values are all integers or all numbers is taken as that.
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


def _goes_with(series: pl.Series, time: pl.Series) -> bool:
    """Whether a column's values come one after the other as the time goes on."""
    ranks = np.stack([column.rank().to_numpy() for column in (series, time)])
    return bool(np.corrcoef(ranks)[0, 1] > ONE_TIME)


def _infer_field(series: pl.Series, evidence: Evidence, log: LogFormat) -> tuple[FieldSpec | None, str]:
    field, reason = _infer_kind(series, evidence, log)
    if field is not None and field.kind != "sequence" and evidence.tells_the_label(series):
        return None, "left out: it alone tells the label, as what is written with it does; no request would have it"
    return field, reason


def _infer_kind(series: pl.Series, evidence: Evidence, log: LogFormat) -> tuple[FieldSpec | None, str]:
    name, dtype = series.name, series.dtype
    words = words_of(name)
    side = "context" if words & CONTEXT_WORDS or any(w.startswith(("user", "device")) for w in words) else "candidate"
    distinct = series.drop_nulls().n_unique()
    if distinct == 0 or (distinct == 1 and not series.null_count()):
        return None, "left out: one value only"
    if isinstance(dtype, pl.List) and not (dtype.inner.is_numeric() or is_token(dtype.inner)):
        return None, f"left out: {dtype} holds no tokens"
    if isinstance(dtype, pl.List):
        return FieldSpec(name=name, kind="sequence", side=side), "sequence: holds lists"
    if dtype == pl.String and _holds_lists(series, log):
        return FieldSpec(name=name, kind="sequence", side=side), f"sequence: tokens with {log.list_separator!r} between"
    if dtype == pl.String or dtype == pl.Categorical:
        if distinct > 0.95 * len(series):
            return None, f"left out: {distinct:,} different strings in {len(series):,} rows name the row itself"
        return FieldSpec(name=name, kind="categorical", side=side), f"categorical: {distinct:,} different strings"
    if dtype == pl.Boolean:
        return FieldSpec(name=name, kind="categorical", side=side), "categorical: true or false"
    if not dtype.is_numeric():
        return None, f"left out: {dtype} is no kind of feature"
    whole = dtype.is_integer() or bool((series.drop_nulls() == series.drop_nulls().round()).all())
    nature = nature_by_name(name)
    if whole and (distinct <= MANY_VALUES or nature == "name" or (nature is None and evidence.is_named(series))):
        if distinct > 0.95 * len(series):
            return None, f"left out: {distinct:,} different numbers in {len(series):,} rows name the row itself"
        return FieldSpec(name=name, kind="categorical", side=side), f"categorical: {distinct:,} different whole numbers"
    return FieldSpec(name=name, kind="numeric", side=side), f"numeric: {distinct:,} different numbers"


def _holds_lists(series: pl.Series, log: LogFormat) -> bool:
    """Whether many of a column's texts are several tokens that also come elsewhere."""
    texts = series.drop_nulls()
    if texts.str.contains(log.list_separator, literal=True).mean() < LISTS:  # type: ignore[operator]
        return False
    tokens = texts.str.split(log.list_separator).explode()
    return tokens.n_unique() <= 0.5 * len(tokens)


def _share(
    field: FieldSpec, fields: list[FieldSpec], frame: pl.DataFrame, log: LogFormat, reasons: dict[str, str]
) -> FieldSpec:
    """Let a sequence share the vocabulary of the field whose tokens are most nearly its own."""
    if field.kind != "sequence":
        return field
    column = frame[field.name]
    lists = column.str.split(log.list_separator) if column.dtype == pl.String else column
    tokens = lists.explode().unique().drop_nulls().cast(pl.String)
    best, owner = 0.0, None
    for other in fields:
        if other.kind == "categorical" and len(tokens):
            known = (
                frame[other.name]
                .drop_nulls()
                .cast(pl.Int64 if frame[other.name].dtype.is_float() else pl.String)
                .cast(pl.String)
                .unique()
            )
            num_shared = int(tokens.is_in(known.implode()).sum())
            likeness = num_shared / (len(tokens) + len(known) - num_shared)
            if num_shared >= 0.5 * len(tokens) and len(known) > MIN_SHARED and likeness > best:
                best, owner = likeness, other.name
    if owner is None:
        return field
    reasons[field.name] = f"sequence: its tokens are those of {owner!r}, so it shares them"
    return field.model_copy(update={"vocabulary": owner})
