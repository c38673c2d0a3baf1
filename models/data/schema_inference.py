"""Infers a feature schema from a log, with a reason for each decision, for a person to edit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from models.data.column_evidence import Evidence, is_row_number, meaning_by_name
from models.data.columns import can_be_token, plain, split_texts
from models.data.log_files import find_files
from models.data.log_sample import Sample, read_sample
from models.data.sides import find_sides, find_user
from models.data.split import printable_time
from models.data.time_inference import TimeColumn, derived_fields, find_time, is_clock, rises_with
from models.errors import LogError
from models.schema.feature_schema import NAME_PATTERN, FeatureSchema, FieldSpec, Kind, LogFormat, Split

FEW_VALUES = 32
"""Whole numbers of at most so many different values are tokens, unless their name says that they are quantities."""
MIN_SHARED = 10
"""A field's vocabulary must be larger than this to be shared with a sequence."""
MIN_LISTS = 0.2
"""Share of a text column's values that must contain the list separator."""
LIST_SEPARATORS = ("|", "^", ",", ";", " ", "\x02", "~", "#", "&")
PART_NAMES = frozenset({"split", "fold", "partition", "istrain", "istest", "trainortest", "set", "subset"})
SHOWN_NAMES = frozenset({"impression", "impressions", "numimpressions", "imps", "views", "shows", "shown"})
COUNT_NAMES = frozenset(
    {"impression", "impressions", "clicks", "numclicks", "clickcount", "numimpressions", "views", "shows"}
)


@dataclass(frozen=True)
class InferredSchema:
    """A schema, the reason for each column's role by name, and warnings for whoever trains with it."""

    schema: FeatureSchema
    reasons: dict[str, str]
    warnings: tuple[str, ...]


def infer_schema(patterns: Sequence[str], label: str) -> InferredSchema:
    """Infer a schema from a sample of the log's files, spread over all of them; every file has its say about types.

    Raises:
        LogError: a file cannot be read, or has no column ``label`` or no other column that can be a field.
    """
    files = find_files(patterns)
    sample = read_sample(files, label)
    frame = sample.frame
    if label not in frame.columns:
        names = ", ".join(repr(name[:64]) for name in frame.columns[:50])
        raise LogError(f"{files[0]}: column {label!r} is missing, the file has {names}")
    if not frame.height:
        raise LogError(f"{files[0]}: the log has no rows")
    counted_by = _impressions(frame, label)
    evidence = Evidence(_labels(frame[label], may_count=counted_by is not None))
    time = find_time(frame, label, evidence)
    reasons: dict[str, str] = {}
    log = _with_list_separator(sample, label)
    fields: list[FieldSpec] = []
    for name in frame.columns:
        if name == label or (time is not None and name == time.name):
            continue
        kind, reason = _role(name, sample, evidence, log, time)
        reasons[name] = reason if kind else f"left out: {reason}"
        if kind is not None:
            fields.append(FieldSpec(name=name, kind=kind))
    if not fields:
        raise LogError(f"{files[0]}: no column but {label!r} can be a field")
    fields = [_share(field, fields, frame, log, reasons) for field in fields]
    user = find_user(frame, fields)
    fields = [*_with_sides(fields, frame, user, time, reasons), *derived_fields(time, fields, reasons)]
    split = Split() if time is None else Split(column=time.name, format=time.written, clock=time.clock)
    if time is not None:
        reasons[time.name] = f"the time that the rows are split by, {_range(time)}; not a field"
    if counted_by is not None:
        reasons[counted_by] = f"how often a row was shown; {label!r} counts the clicks"
    schema = FeatureSchema(label=label, impressions=counted_by, group=user, split=split, fields=tuple(fields), log=log)
    return InferredSchema(schema, reasons, tuple(_warnings(time, files)))


def _warnings(time: TimeColumn | None, files: Sequence[Path]) -> list[str]:
    if time is None:
        return [
            (
                "no column says when an impression was shown, so the rows are split at random, and the figures may flatter the model: "
                "name the time as 'column' in the schema's [split], or set by_order = true if the rows are in order of time"
            )
        ]
    num_null = time.moments.null_count()
    return (
        [f"{num_null:,} rows of the sample have no {time.name!r}: they are used for training only"] if num_null else []
    )


def _range(time: TimeColumn) -> str:
    known = time.moments.drop_nulls()
    clock = f" with {time.clock!r}" if time.clock else ""
    written = f" as {time.written}" if time.written else ""
    ends = (printable_time(end) for end in (known.min(), known.max()))
    return f"read{written}{clock}: from {' to '.join(ends)}"


def _impressions(frame: pl.DataFrame, label: str) -> str | None:
    """Return the column that counts a row's impressions, if the label counts clicks."""
    if not (frame[label].dtype.is_numeric() or frame[label].dtype == pl.String):
        return None
    clicks = frame[label].cast(pl.Float64, strict=False)
    for name in frame.columns:
        shown = frame[name]
        if name.lower().replace("_", "") not in SHOWN_NAMES or not shown.dtype.is_integer():
            continue
        are_counts = shown.null_count() + clicks.null_count() == 0 and bool(((shown >= clicks) & (clicks >= 0)).all())
        if are_counts and bool((shown >= 1).all()) and bool((shown > 1).any()):
            return name
    return None


def _labels(series: pl.Series, *, may_count: bool) -> pl.Series:
    # Values that are no labels are refused when the log is read, with the row.
    if series.dtype == pl.String:
        series = (
            series.cast(pl.Float64, strict=False)
            if may_count
            else series.str.to_lowercase().is_in(["true", "t", "1", "+1", "1.0", "yes", "y"])
        )
    elif not (series.dtype.is_numeric() or series.dtype == pl.Boolean):
        return pl.Series(np.zeros(len(series)))
    labels = series.cast(pl.Float64, strict=False).fill_null(0.0).fill_nan(0.0)
    return ((labels >= 1) if may_count else (labels == 1)).cast(pl.Float64)


def _role(
    name: str, sample: Sample, evidence: Evidence, log: LogFormat, time: TimeColumn | None
) -> tuple[Kind | None, str]:
    """Return the kind of a column and why; ``None`` if it is to be left out."""
    series, short = sample.frame[name], name.lower().replace("_", "").replace(" ", "")
    if not NAME_PATTERN.fullmatch(name) or len(name) > 128:
        return None, "a field's name has 1 to 128 characters and no double quote, backslash or control character"
    if time is not None and name == time.clock and is_clock(series):
        return None, f"the time of the day, read together with {time.name!r}"
    if is_clock(series):
        return None, "a time of the day"
    if leak := evidence.leak_of(series):
        return None, f"only clicks have {leak}, so it was written after the click"
    if time is not None and rises_with(series, time):
        return None, f"rises with {time.name!r}, so later rows have values that training never saw"
    if short in PART_NAMES and series.n_unique() <= 10:
        return None, "says which part a row is of"
    if short in COUNT_NAMES and series.dtype.is_numeric():
        return None, "a count that is taken together with the clicks"
    kind, reason = _kind(series, evidence, log, sample)
    if kind is None:
        return None, reason
    if kind != "sequence" and evidence.predicts_the_label(series):
        return None, "predicts the label almost perfectly, so it was written when the label was known"
    return kind, f"{kind}: {reason}"


def _kind(series: pl.Series, evidence: Evidence, log: LogFormat, sample: Sample) -> tuple[Kind | None, str]:
    dtype, values = series.dtype, series.drop_nulls()
    if isinstance(dtype, pl.List):
        return ("sequence", "holds lists") if can_be_token(dtype.inner) else (None, f"{dtype} holds no tokens")
    if isinstance(dtype, pl.Struct | pl.Object):
        return None, f"{dtype} is not supported"
    distinct = values.n_unique()
    if distinct == 0 or (distinct == 1 and not series.null_count()):
        return None, "one value only"
    if dtype == pl.String and _holds_lists(values, log.list_separator):
        return "sequence", f"tokens separated by {log.list_separator!r}"
    identifies_rows = distinct > 0.95 * len(series)
    if dtype == pl.String:
        if identifies_rows:
            return None, f"{distinct:,} different strings in {len(series):,} rows identify the row"
        return "categorical", f"{distinct:,} different strings"
    if dtype == pl.Boolean:
        return "categorical", "true or false"
    if not dtype.is_numeric():
        return None, f"{dtype} is not supported"
    is_whole = series.name in sample.whole
    if is_whole and is_row_number(series):
        return None, f"{distinct:,} different numbers in {len(series):,} rows count the rows"
    meaning = meaning_by_name(series.name)
    is_id = meaning == "id" or (meaning is None and (distinct <= FEW_VALUES or evidence.are_ids(series)))
    if is_whole and (is_id or distinct <= 2):
        if identifies_rows:
            return None, f"{distinct:,} different numbers in {len(series):,} rows identify the row"
        return "categorical", f"{distinct:,} different whole numbers"
    return "numeric", f"{distinct:,} different numbers"


def _with_list_separator(sample: Sample, label: str) -> LogFormat:
    """Return the sample's format with the separator that makes most text columns lists."""
    texts = [
        sample.frame[c].drop_nulls() for c in sample.frame.columns if c != label and sample.frame[c].dtype == pl.String
    ]
    num_lists = {s: sum(_holds_lists(t, s) for t in texts if len(t) and not is_clock(t)) for s in LIST_SEPARATORS}
    best = max(num_lists, key=lambda separator: num_lists[separator])
    return sample.log.model_copy(update={"list_separator": best}) if num_lists[best] else sample.log


def _holds_lists(texts: pl.Series, separator: str) -> bool:
    """Whether many texts are lists, of tokens that occur more than once."""
    if not len(texts) or texts.str.contains(separator, literal=True).mean() < MIN_LISTS:  # type: ignore[operator]
        return False
    lists = split_texts(texts, separator)
    tokens = lists.explode(empty_as_null=True, keep_nulls=True)
    is_reused = tokens.n_unique() <= 0.5 * len(tokens)
    if separator in ("|", "^", "\x02"):
        return is_reused
    # Marks that occur in texts, too: lists differ in length, or have far fewer tokens than there are texts.
    return is_reused and lists.list.len().n_unique() > 2 and tokens.n_unique() < 0.5 * texts.n_unique()


def _with_sides(
    fields: list[FieldSpec], frame: pl.DataFrame, user: str | None, time: TimeColumn | None, reasons: dict[str, str]
) -> list[FieldSpec]:
    sides = find_sides(frame, fields, user, None if time is None else time.moments)
    for name, found in sides.items():
        reasons[name] += f"; {found.side}: {found.reason}"
    return [field.model_copy(update={"side": sides[field.name].side}) for field in fields]


def _share(
    field: FieldSpec, fields: list[FieldSpec], frame: pl.DataFrame, log: LogFormat, reasons: dict[str, str]
) -> FieldSpec:
    """Let a sequence share the vocabulary of the field with the most similar set of tokens."""
    if field.kind != "sequence":
        return field
    column = frame[field.name]
    lists = split_texts(column, log.list_separator) if column.dtype == pl.String else column
    tokens = plain(lists.explode()).unique().drop_nulls().cast(pl.String)
    best, owner = 0.0, None
    for other in fields:
        if other.kind == "categorical" and len(tokens):
            values = frame[other.name].drop_nulls()
            whole = values.cast(pl.Int64, strict=False) if values.dtype.is_float() else values
            known = whole.cast(pl.String).unique()
            num_shared = int(tokens.is_in(known.implode()).sum())
            similarity = num_shared / (len(tokens) + len(known) - num_shared)
            if num_shared >= 0.5 * len(tokens) and len(known) > MIN_SHARED and similarity > best:
                best, owner = similarity, other.name
    if owner is None:
        return field
    reasons[field.name] = f"sequence: shares the tokens of {owner!r}"
    return field.model_copy(update={"vocabulary": owner})
