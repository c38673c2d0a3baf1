"""Finds the column that says when each impression was shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from models.data.column_evidence import Evidence, words_of
from models.data.moments import are_whole_days, formats_of, likeliest, parse_clocks, parse_moments
from models.features.moments import DAY_US
from models.schema.feature_schema import Derived, FieldSpec

TIME_WORDS = frozenset({"time", "timestamp", "ts", "datetime", "date", "stamp", "hour", "day", "dt", "at", "when"})
ORDINAL_NAMES = frozenset({"time", "timestamp", "ts", "eventtime", "datetime", "t", "step", "day", "timems"})
"""Names of columns whose numbers say what comes after what, even if they are no dates."""
OTHER_TIMES = frozenset({
    "birth", "birthday", "birthdate", "dob", "born", "signup", "register", "registered", "registration", "joined", "join",
    "upload", "uploaded", "publish", "published", "release", "released", "expire", "expires", "expiry", "install", "installed",
    "start", "end", "since", "until", "campaign", "account", "last", "first", "previous", "prev", "next", "modified", "updated",
    "conversion", "converted", "purchase", "purchased",
})  # fmt: skip
"""Words of columns that tell of another moment than that of the impression; one counts only if the log is in its order."""
HOUR_WORDS = frozenset({"hour", "hours", "hr"})
WEEKDAY_WORDS = frozenset({"weekday", "dow", "dayofweek"})
MAX_NULL = 0.5
MANY_ORDINALS = 1_000
SAME_TIME = 0.9
"""Rank correlation from which two time columns tell the same time."""


@dataclass(frozen=True)
class TimeColumn:
    """The time of a log.

    Args:
        name: of the column.
        written: its format, as the schema's ``split.format``.
        clock: the column with the time of the day, if the first has the day alone.
        moments: of the sample: Datetime, or numbers that only rise.
    """

    name: str
    written: str | None
    clock: str | None
    moments: pl.Series

    @property
    def num_days(self) -> float:
        """How many days lie between the first and the last moment; 0 if the moments are not of days of a known year."""
        has_year = self.written is None or self.written.startswith("epoch") or "%y" in self.written.lower()
        known = self.moments.drop_nulls().to_physical()
        if not isinstance(self.moments.dtype, pl.Datetime) or not has_year or not len(known):
            return 0.0
        return float(known.max() - known.min()) / DAY_US  # type: ignore[operator, arg-type]


def find_time(frame: pl.DataFrame, label: str, evidence: Evidence) -> TimeColumn | None:
    """Return the time of a sample of a log, in the order of its files; ``None`` if no column tells it.

    Of several columns those count first whose name and nulls speak of the impression, then those in whose order the log
    is, and of these the finest.
    """
    found: list[tuple[tuple[int, bool, int], TimeColumn]] = []
    for name in frame.columns:
        column = frame[name]
        known = column.drop_nulls()
        if name == label or len(known) < (1 - MAX_NULL) * len(column) or known.n_unique() < 1 or not len(known):
            continue
        words = words_of(name)
        if column.null_count() and evidence.leak_of(column):
            continue
        time = _as_time(column, known, words)
        if time is not None:
            moments = time.moments.drop_nulls()
            is_other, is_in_order = bool(words & OTHER_TIMES), bool(moments.is_sorted())
            if not is_other or (is_in_order and moments.n_unique() > 1):
                meaning = 0 if is_other else 2 if words & TIME_WORDS else 1
                found.append(((meaning, is_in_order, moments.n_unique()), time))
    if not found:
        return None
    best = max(found, key=lambda ranked: ranked[0])[1]
    return _with_clock(best, frame, label)


def derived_fields(time: TimeColumn | None, fields: Sequence[FieldSpec], reasons: dict[str, str]) -> list[FieldSpec]:
    """Return the fields that the time of a log gives: the hour of the day, and the day of the week in a log of two weeks.

    A log that has such a field keeps its own; in a shorter log most hours or days of the test part would be new.
    """
    if time is None or isinstance(time.moments.dtype, pl.Float64):
        return []
    words = set[str]().union(*(words_of(field.name) for field in fields))
    found: list[FieldSpec] = []
    wanted: tuple[tuple[Derived, bool], ...] = (
        ("hour", time.num_days >= 2 and not are_whole_days(time.moments) and not words & HOUR_WORDS),
        ("weekday", time.num_days >= 14 and not words & WEEKDAY_WORDS),
    )
    for derived, is_wanted in wanted:
        if is_wanted and derived not in {field.name for field in fields}:
            found.append(FieldSpec(name=derived, kind="categorical", derived=derived))
            reasons[derived] = f"categorical: derived from {time.name!r} (UTC); context: of the moment"
    return found


def is_clock(column: pl.Series) -> bool:
    """Whether a column holds times of the day, not only hours."""
    known = column.drop_nulls()
    if column.dtype == pl.Time:
        return True
    if column.dtype != pl.String or not len(known):
        return False
    few = known.head(1_000)
    return bool(few.str.contains(":", literal=True).all()) and parse_clocks(few).null_count() == 0


def rises_with(column: pl.Series, time: TimeColumn) -> bool:
    """Whether a column is a time that rises with that of the log."""
    words, known = words_of(column.name), column.drop_nulls()
    if words & OTHER_TIMES or known.n_unique() < 3:
        return False
    other = _as_time(column, known, words)
    if other is None:
        return False
    pair = pl.DataFrame({"a": other.moments.to_physical(), "b": time.moments.to_physical()}).drop_nulls()
    if pair.height < 3:
        return False
    ranks = np.stack([pair[c].rank().to_numpy() for c in "ab"])
    return bool(np.corrcoef(ranks)[0, 1] > SAME_TIME)


def _as_time(column: pl.Series, known: pl.Series, words: set[str]) -> TimeColumn | None:
    is_named = bool(words & TIME_WORDS)
    if known.dtype.is_numeric() and not is_named:
        return None  # ids look like dates and epochs, too
    formats = formats_of(known)
    if formats:
        written = likeliest(formats, column) if len(formats) > 1 else formats[0]
        return TimeColumn(column.name, written, None, parse_moments(column, written))
    is_ordinal = known.dtype.is_numeric() and column.name.lower().replace("_", "") in ORDINAL_NAMES
    if is_ordinal and (known.is_sorted() or known.n_unique() >= MANY_ORDINALS):
        return TimeColumn(column.name, None, None, column.cast(pl.Float64))
    return None


def _with_clock(time: TimeColumn, frame: pl.DataFrame, label: str) -> TimeColumn:
    if not isinstance(time.moments.dtype, pl.Datetime) or not are_whole_days(time.moments):
        return time
    names = [name for name in frame.columns if name not in (label, time.name)]
    clocks = [name for name in names if is_clock(frame[name]) and not words_of(name) & OTHER_TIMES]
    clocks += [name for name in names if name.lower() in ("hour", "hr", "hour_of_day") and _are_hours(frame[name])]
    if not clocks:
        return time
    moments = (time.moments.to_physical() + parse_clocks(frame[clocks[0]])).cast(time.moments.dtype)
    return TimeColumn(time.name, time.written, clocks[0], moments)


def _are_hours(column: pl.Series) -> bool:
    known = column.drop_nulls()
    return bool(len(known)) and known.dtype.is_integer() and parse_clocks(known).null_count() == 0
