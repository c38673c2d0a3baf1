"""Moments: when an impression is shown, in microseconds since 1970 (UTC), and what fields derive from it."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

from models.schema.feature_schema import Derived

EPOCH_UNITS = {"epoch_s": 1_000_000, "epoch_ms": 1_000, "epoch_us": 1, "epoch_ns": 0.001}
"""Microseconds in one unit of a format."""
CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2})(\.\d+)?)?(?: ?([AaPp][Mm]))?")
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
DERIVE: dict[Derived, Callable[[int], int]] = {
    "hour": lambda moment: moment % DAY_US // HOUR_US,
    "weekday": lambda moment: (moment // DAY_US + 3) % 7,  # 1970 began on a Thursday
}


def parse_moment(value: str | float, written: str | None) -> int | None:
    """Return the moment of a value written as the schema's ``split.format`` says; ``None`` if it is no moment.

    >>> parse_moment("2024-06-01T02:00:00+02:00", None) == parse_moment(1717200000, "epoch_s")
    True
    >>> parse_moment("01.06.2024", "%d.%m.%Y") == parse_moment("1717200000000", "epoch_ms")
    True
    """
    if written in EPOCH_UNITS:
        try:
            return int(float(value) * EPOCH_UNITS[written] // 1)
        except (OverflowError, ValueError):
            return None
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
    moment = _iso(text) if written is None else _by_pattern(text, written)
    if moment is None:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    gone = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (gone.days * 86_400 + gone.seconds) * 1_000_000 + gone.microseconds


def parse_clock(value: str | float) -> int | None:
    """Return the microseconds since midnight of a time of the day, or of an hour from 0 to 23; ``None`` if it is neither.

    >>> parse_clock("1:30 PM") == 13.5 * HOUR_US, parse_clock(7) == 7 * HOUR_US, parse_clock("soon")
    (True, True, None)
    """
    text = str(value).strip().removesuffix(".0")
    if text.isascii() and text.isdigit() and len(text) < 3 and int(text) < 24:
        return int(text) * HOUR_US
    found = CLOCK.fullmatch(text)
    if found is None:
        return None
    hour, minute, second = int(found[1]), int(found[2]), int(found[3] or 0)
    if found[5]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + 12 * (found[5].lower() == "pm")
    if hour > 23 or minute > 59 or second > 59:
        return None
    return (hour * 3_600 + minute * 60 + second) * 1_000_000 + int(float(found[4] or 0) * 1_000_000)


def _iso(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text.removesuffix(" UTC"))
    except ValueError:
        return None


def _by_pattern(text: str, written: str) -> datetime | None:
    # %b reads whole names of months in a log; %.f is an optional fraction of a second.
    if "%Y" not in written and "%y" not in written:
        text, written = f"{text} 2000", f"{written} %Y"
    if written.endswith("%H"):
        text, written = f"{text}00", f"{written}%M"
    patterns = [written.replace("%.f", fraction) for fraction in ("", ".%f")]
    for pattern in dict.fromkeys([*patterns, *(p.replace("%b", "%B") for p in patterns)]):
        try:
            return datetime.strptime(text, pattern)  # the caller adds UTC where it has no offset
        except ValueError:
            continue
    return None
