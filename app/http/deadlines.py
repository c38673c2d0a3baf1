"""A request's own deadline, ``X-Request-Timeout-Ms``: how long after its coming an answer is still of use."""

from __future__ import annotations

import math
import time


def is_late(timeout_ms: bytes, arrived: float) -> bool:
    """Return whether a request's time has passed, or is no number.

    Args:
        timeout_ms: the header's value.
        arrived: by `time.perf_counter`.

    >>> is_late(b"1000", time.perf_counter()), is_late(b"0", time.perf_counter()), is_late(b"soon", 0.0)
    (False, True, True)
    """
    return not time.perf_counter() - arrived <= milliseconds(timeout_ms) / 1000


def milliseconds(timeout_ms: bytes) -> float:
    """Return the header's value, NaN if it is no number."""
    try:
        return float(timeout_ms)
    except ValueError:
        return math.nan
