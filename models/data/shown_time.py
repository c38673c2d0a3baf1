"""Times of a log as a person reads them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

YEARS = range(1990, 2100)
"""In which a number of a time column is taken for a date."""
SPELLINGS = ((8, "%Y%m%d"), (10, "%Y%m%d%H"), (12, "%Y%m%d%H%M"), (14, "%Y%m%d%H%M%S"), (8, "%y%m%d%H"))
"""Number of digits, and what they mean."""
CLOCK = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(:\d\d)?(?:\.\d+)?")


def shown_time(text: str) -> str:
    """Return a value of a time column as a date, with the time of day where it has one; other text as it is.

    >>> [shown_time(t) for t in ("20220503", "14102107", "1717200002", "1717200002000", "2026-01-05 00:00:00")]
    ['2022-05-03', '2014-10-21 07:00:00', '2024-06-01 00:00:02', '2024-06-01 00:00:02', '2026-01-05']
    >>> [shown_time(t) for t in ("17", "week 3", "2026-01-05T09:30:00.250000+00:00")]
    ['17', 'week 3', '2026-01-05 09:30:00 UTC']
    """
    digits = text.removesuffix(".0")
    moment = (_spelled(digits) or _since_1970(digits)) if re.fullmatch(r"[1-9]\d{7,18}", digits) else None
    written = text if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"
    shown = CLOCK.sub(lambda m: f"{m[1]} {m[2]}{m[3] or ''}", written)
    return shown.replace("+00:00", " UTC").removesuffix(" 00:00:00").removesuffix(" 00:00")


def _spelled(digits: str) -> datetime | None:
    for length, spelling in SPELLINGS:
        try:
            moment = datetime.strptime(digits, spelling).replace(tzinfo=UTC)
        except ValueError:
            continue
        if len(digits) == length and moment.year in YEARS:
            return moment
    return None


def _since_1970(digits: str) -> datetime | None:
    # In seconds, milli-, micro- or nanoseconds: only one of them gives a year of today.
    for power in (0, 3, 6, 9):
        seconds = int(digits) // 10**power
        if seconds < 2**33 and (moment := datetime.fromtimestamp(seconds, UTC)).year in YEARS:
            return moment
    return None
