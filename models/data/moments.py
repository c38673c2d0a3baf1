"""Finds out how a column of a log writes its dates and times, and parses them; `models.features.moments` does it for a request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import polars as pl

from models.features.moments import CLOCK, DAY_US, EPOCH_UNITS, HOUR_US

SAMPLE = 200
"""Values that a pattern must read before it is tried on all of them."""
YEARS = (631_152_000_000_000, 4_102_444_800_000_000)
"""Moments from 1990 to 2100 count as times of a log, in microseconds."""
ISO_PATTERNS = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S%.f%z", "%Y-%m-%dT%H:%M%z")
DIGITS = {
    6: ("%y%m%d",),
    8: ("%Y%m%d", "%y%m%d%H"),
    10: ("%Y%m%d%H", "%y%m%d%H%M"),
    12: ("%Y%m%d%H%M",),
    14: ("%Y%m%d%H%M%S",),
}
"""Patterns of dates written as numbers, by the number of digits."""
DATES = (
    "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%y", "%d/%m/%y", "%m/%d/%y",
    "%b %d, %Y", "%b %d %Y", "%d %b %Y", "%d-%b-%Y", "%d/%b/%Y", "%d-%b-%y", "%Y-%b-%d", "%b %d", "%d %b", "%Y-%m-%d",
)  # fmt: skip
CLOCKS = (
    "",
    " %H:%M:%S%.f",
    " %H:%M",
    " %I:%M:%S %p",
    " %I:%M %p",
    "T%H:%M:%S%.f",
    ":%H:%M:%S",
    ", %H:%M",
    ", %I:%M %p",
)
ZONES = ("", " %z")
MOMENT = pl.Datetime("us")


def parse_moments(series: pl.Series, written: str | None) -> pl.Series:
    """Return the moments of a column as Datetime in microseconds, UTC; null where a value is none.

    Args:
        series: dates, times, text or numbers.
        written: the schema's ``split.format``.
    """
    if series.dtype == pl.Date:
        return series.cast(MOMENT)
    if isinstance(series.dtype, pl.Datetime):
        zoned = series.dtype.time_zone is not None
        return (series.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if zoned else series).cast(MOMENT)
    if written in EPOCH_UNITS:
        whole = series.cast(pl.Int64, strict=False) if not series.dtype.is_float() else None
        if whole is not None and whole.null_count() == series.null_count():
            unit = EPOCH_UNITS[written]
            return (whole * int(unit) if unit >= 1 else whole // round(1 / unit)).cast(MOMENT)
        exact = series.cast(pl.Float64, strict=False).fill_nan(None) * EPOCH_UNITS[written]
        return exact.floor().cast(pl.Int64, strict=False).cast(MOMENT)
    texts = _texts(series)
    return _parse_iso(texts) if written is None else _parse(texts, written)


def parse_clocks(series: pl.Series) -> pl.Series:
    """Return times of the day as Int64 microseconds since midnight; null where a value is none."""
    if series.dtype == pl.Time:
        return series.cast(pl.Int64) // 1_000
    texts = _texts(series)
    parts = texts.str.extract_groups(f"^(?:{CLOCK.pattern})$")
    hour, minute, second, fraction, half = (parts.struct.field(str(i)) for i in range(1, 6))
    hours, minutes, seconds = (part.cast(pl.Int64) for part in (hour, minute, second.fill_null("0")))
    is_half = half.is_not_null()
    in_half = hours % 12 + 12 * (half.str.to_lowercase() == "pm").fill_null(value=False).cast(pl.Int64)
    full = hours.zip_with(~is_half, in_half)
    valid = (full < 24) & (minutes < 60) & (seconds < 60) & (~is_half | hours.is_between(1, 12))
    micros = (fraction.fill_null("0").cast(pl.Float64) * 1e6).floor().cast(pl.Int64)
    clocks = ((full * 60 + minutes) * 60 + seconds) * 1_000_000 + micros
    whole = texts.str.strip_suffix(".0")
    as_hour = whole.set(~whole.str.contains(r"^\d{1,2}$").fill_null(value=False), None).cast(pl.Int64)
    as_hour = as_hour.set((as_hour > 23).fill_null(value=False), None) * HOUR_US
    return clocks.set(~valid.fill_null(value=False), None).fill_null(as_hour)


def formats_of(values: pl.Series) -> list[str | None]:
    """Return every format that reads all values of a column, the likeliest first; empty if they are no dates or times.

    Args:
        values: of any type, without nulls, at least one.
    """
    if values.dtype.is_temporal():
        return [None] if values.dtype == pl.Date or isinstance(values.dtype, pl.Datetime) else []
    if values.dtype.is_numeric() or values.dtype == pl.String:
        distinct = values.unique(maintain_order=True)
        few = distinct.gather_every(max(1, len(distinct) // SAMPLE))
        likely = [written for written in _formats(few) if _reads(few, written)]
        found = [written for written in likely if _reads(distinct, written)]
        return [
            written for written in found if written not in EPOCH_UNITS
        ] or found  # dates in digits look like epochs, too
    return []


def _formats(few: pl.Series) -> Iterator[str | None]:
    """Yield the formats to try on a column's values."""
    texts = _texts(few)
    if not texts.str.contains(r"^.{0,39}\d.{0,39}$").all():  # tokens of all kinds need not be tried
        return
    if texts.str.contains(r"^\d+$").all():
        for length in texts.str.len_chars().unique().sort(descending=True).head(1):
            yield from DIGITS.get(length, ())
    if few.dtype.is_numeric() or texts.str.contains(r"^\d{9,20}(\.\d+)?$").all():
        yield from EPOCH_UNITS
        return
    yield None
    dates = (*DATES, *(date.replace("%b", "%B") for date in DATES if "%b" in date))
    for day, date, clock, zone in product(("", "%a, "), dates, CLOCKS, ZONES):
        if clock or not zone:
            yield f"{day}{date}{clock}{zone}"
    yield "%a %b %d %H:%M:%S %Y"


def _reads(values: pl.Series, written: str | None) -> bool:
    moments = parse_moments(values, written)
    if moments.null_count():
        return False
    if written is not None and "%Y" not in written and "%y" not in written and written not in EPOCH_UNITS:
        return True  # no year, so of no range
    low, high = moments.to_physical().min(), moments.to_physical().max()
    return YEARS[0] <= int(low) and int(high) < YEARS[1]  # type: ignore[arg-type]


def likeliest(formats: Sequence[str | None], in_order: pl.Series) -> str | None:
    """Return the format by which the rows of a log are most nearly in order of time; of equal ones that of the shortest time.

    Eight days in a row are ``06/01`` to ``06/08``, which could be the sixth of eight months, too.
    """

    def likelihood(written: str | None) -> tuple[float, int]:
        moments = parse_moments(in_order, written).drop_nulls().to_physical()
        span = 0 if not len(moments) else int(moments.max()) - int(moments.min())  # type: ignore[arg-type]
        return float((moments.diff().drop_nulls() >= 0).mean() or 0.0), -span  # type: ignore[arg-type]

    return max(formats, key=likelihood)


def are_whole_days(moments: pl.Series) -> bool:
    """Whether no moment has a time of the day."""
    return bool((moments.drop_nulls().to_physical() % DAY_US == 0).all())


def _texts(series: pl.Series) -> pl.Series:
    if series.dtype.is_float() and bool((series.drop_nulls() == series.drop_nulls().round()).all()):
        series = series.cast(pl.Int64, strict=False)
    return series.cast(pl.String).str.strip_chars()


def _parse_iso(texts: pl.Series) -> pl.Series:
    plain = texts.str.replace(r"^(\d{4}-\d{2}-\d{2}) (\d)", "${1}T$2").str.replace(r"( ?UTC|Z)$", "+00:00")
    moments = pl.Series(texts.name, dtype=MOMENT).extend_constant(None, len(texts))
    for pattern in ISO_PATTERNS:
        if moments.null_count() == texts.null_count():
            break
        moments = moments.fill_null(_strptime(plain, pattern))
    return moments


def _parse(texts: pl.Series, written: str) -> pl.Series:
    if "%Y" not in written and "%y" not in written:
        texts, written = texts + " 2000", f"{written} %Y"
    if written.endswith("%H"):  # chrono wants minutes
        texts, written = texts + "00", f"{written}%M"
    return _strptime(texts, written)


def _strptime(texts: pl.Series, pattern: str) -> pl.Series:
    try:
        parsed = texts.str.to_datetime(pattern, time_unit="us", strict=False)
    except pl.exceptions.ComputeError:  # the pattern fits no value at all
        return pl.Series(texts.name, dtype=MOMENT).extend_constant(None, len(texts))
    return parsed.dt.replace_time_zone(None) if parsed.dtype.time_zone else parsed  # type: ignore[attr-defined]
