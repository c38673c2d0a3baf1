"""Guesses a feature schema from a log, with a reason for each guess, for a person to edit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from models.errors import LogError
from models.impressions import are_integers, is_token
from models.log_files import UNREADABLE, find_files, first_line, is_text, scan_file
from models.schema import FeatureSchema, FieldSpec, LogFormat, Split

SAMPLE_ROWS = 200_000
MANY_VALUES = 256
TIME_NAMES = {"time", "timestamp", "ts", "datetime", "date", "day", "event_time", "time_ms", "dt"}
GROUP_NAMES = ("user_id", "userid", "uid", "user", "device_id", "session_id")
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
}
ID_PATTERN = re.compile(r"(^|_)(id|ids|code|type|cat|category|hash)($|_)")


@dataclass(frozen=True)
class InferredSchema:
    """A schema, and why each field is what it is, by name."""

    schema: FeatureSchema
    reasons: dict[str, str]


def infer_schema(patterns: Sequence[str], label: str) -> InferredSchema:
    """Infer a schema from the first rows of the log's first file.

    Raises:
        LogError: the file cannot be read, or has no column ``label`` or nothing to predict it from.
    """
    path = find_files(patterns)[0]
    frame = _sample(path)
    if label not in frame.columns:
        names = ", ".join(repr(name[:64]) for name in frame.columns[:50])
        raise LogError(f"{path}: column {label!r} is missing, the file has {names}")
    time_column = next((c for c in frame.columns if c != label and _is_time(frame[c])), None)
    fields: list[FieldSpec] = []
    reasons: dict[str, str] = {}
    for name in frame.columns:
        if name in (label, time_column):
            continue
        field, reason = _infer_field(frame[name])
        reasons[name] = reason
        if field is not None:
            fields.append(field)
    if not fields:
        raise LogError(f"{path}: no column but {label!r} can be a field")
    fields = [_share(field, fields, frame, reasons) for field in fields]
    group = next(
        (f.name for want in GROUP_NAMES for f in fields if f.name.lower() == want and f.kind == "categorical"), None
    )
    if time_column is not None:
        reasons[time_column] = "orders the rows in time: splits them, is no field"
    split = Split(column=time_column)
    return InferredSchema(
        FeatureSchema(label=label, group=group, split=split, fields=tuple(fields), log=LogFormat()), reasons
    )


def _sample(path: Path) -> pl.DataFrame:
    try:
        frame = scan_file(path, LogFormat()).head(SAMPLE_ROWS).collect()
    except UNREADABLE as error:
        raise LogError(f"{path}: cannot be read: {first_line(error)}") from error
    return frame.with_columns(_by_content(frame[c]) for c in frame.columns) if is_text(path) else frame


def _by_content(series: pl.Series) -> pl.Series:
    # A text column whose values are all integers or all numbers is taken as that.
    filled = series.drop_nulls()
    if are_integers(filled):
        return series.cast(pl.Int64)
    numbers = filled.cast(pl.Float64, strict=False)
    leading_zeros = bool(filled.str.contains(r"^-?0[0-9]").any())
    return series if numbers.null_count() or leading_zeros else series.cast(pl.Float64)


def _is_time(series: pl.Series) -> bool:
    if series.dtype.is_temporal():
        return series.null_count() == 0
    return series.name.lower() in TIME_NAMES and series.null_count() == 0 and not isinstance(series.dtype, pl.List)


def _infer_field(series: pl.Series) -> tuple[FieldSpec | None, str]:
    name, dtype = series.name, series.dtype
    side = "context" if set(re.split(r"[^a-z]+", name.lower())) & CONTEXT_WORDS else "candidate"
    distinct = series.drop_nulls().n_unique()
    if distinct == 0 or (distinct == 1 and not series.null_count()):
        return None, "left out: one value only"
    if isinstance(dtype, pl.List) and not (dtype.inner.is_numeric() or is_token(dtype.inner)):
        return None, f"left out: {dtype} holds no tokens"
    if isinstance(dtype, pl.List):
        return FieldSpec(name=name, kind="sequence", side=side), "sequence: holds lists"
    if dtype == pl.String or dtype == pl.Categorical:
        if distinct > 0.95 * len(series):
            return None, f"left out: {distinct:,} different strings in {len(series):,} rows name the row itself"
        return FieldSpec(name=name, kind="categorical", side=side), f"categorical: {distinct:,} different strings"
    if dtype == pl.Boolean:
        return FieldSpec(name=name, kind="categorical", side=side), "categorical: true or false"
    if not dtype.is_numeric():
        return None, f"left out: {dtype} is no kind of feature"
    whole = dtype.is_integer() or bool((series.drop_nulls() == series.drop_nulls().round()).all())
    if whole and (distinct <= MANY_VALUES or ID_PATTERN.search(name.lower())):
        if distinct > 0.95 * len(series):
            return None, f"left out: {distinct:,} different numbers in {len(series):,} rows name the row itself"
        return FieldSpec(name=name, kind="categorical", side=side), f"categorical: {distinct:,} different whole numbers"
    return FieldSpec(name=name, kind="numeric", side=side), f"numeric: {distinct:,} different numbers"


def _share(field: FieldSpec, fields: list[FieldSpec], frame: pl.DataFrame, reasons: dict[str, str]) -> FieldSpec:
    if field.kind != "sequence":
        return field
    tokens = frame[field.name].explode().drop_nulls().cast(pl.String).unique()
    for other in fields:
        if other.kind == "categorical" and len(tokens):
            known = (
                frame[other.name]
                .drop_nulls()
                .cast(pl.Int64 if frame[other.name].dtype.is_float() else pl.String)
                .cast(pl.String)
                .unique()
            )
            if tokens.is_in(known.implode()).mean() >= 0.5 and len(known) > 10:  # type: ignore[operator]
                reasons[field.name] = f"sequence: its tokens are those of {other.name!r}, so it shares them"
                return field.model_copy(update={"vocabulary": other.name})
    return field
