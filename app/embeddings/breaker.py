"""A circuit breaker for Redis. Clock and random generator are arguments."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

CONSECUTIVE_FAILURES = 5
WINDOW_S = 10
WINDOW_MIN_CALLS = 20
WINDOW_FAILURE_SHARE = 0.5
FIRST_PROBE_S = 0.5
LAST_PROBE_S = 5.0
PROBE_GROWTH = 2.0
PROBE_JITTER = 0.2


class Breaker:
    """Closed, it lets calls through; open, none until a probe has succeeded.

    It opens after `CONSECUTIVE_FAILURES`, or when `WINDOW_FAILURE_SHARE` of at least `WINDOW_MIN_CALLS` in the last
    `WINDOW_S` failed. Probes are due after 0.5 s, then after pauses that double up to 5 s, ±20 %.

    Args:
        clock: seconds, never going back.
        rng: spreads the probes of several workers.
    """

    def __init__(self, clock: Callable[[], float], rng: random.Random) -> None:
        self._clock = clock
        self._rng = rng
        self._seconds: deque[list[int]] = deque()  # [second, succeeded, failed] of each second with calls
        self._consecutive = 0
        self._pause_s = FIRST_PROBE_S
        self._probe_at = 0.0
        self.is_open = False

    def succeeded(self) -> None:
        """Note a call that succeeded."""
        if not self.is_open:
            self._consecutive = 0
            self._this_second()[1] += 1

    def failed(self) -> bool:
        """Note a call that failed; return whether that opens the breaker."""
        if self.is_open:
            return False
        self._consecutive += 1
        self._this_second()[2] += 1
        num_failed = sum(failed for _, _, failed in self._seconds)
        num_calls = num_failed + sum(succeeded for _, succeeded, _ in self._seconds)
        is_bad = num_calls >= WINDOW_MIN_CALLS and num_failed >= WINDOW_FAILURE_SHARE * num_calls
        return (is_bad or self._consecutive >= CONSECUTIVE_FAILURES) and self.trip()

    def trip(self) -> bool:
        """Open at once; return whether the breaker was closed."""
        if self.is_open:
            return False
        self.is_open = True
        self._pause_s = FIRST_PROBE_S
        self._schedule_probe()
        return True

    def probe_delay_s(self) -> float:
        """Return the seconds until the next probe is due, 0 when it is."""
        return max(0.0, self._probe_at - self._clock())

    def probe_failed(self) -> None:
        """Stay open, and lengthen the pause before the next probe."""
        self._pause_s = min(LAST_PROBE_S, self._pause_s * PROBE_GROWTH)
        self._schedule_probe()

    def probe_succeeded(self) -> bool:
        """Close and forget all failures; return whether the breaker was open."""
        was_open, self.is_open = self.is_open, False
        self._consecutive = 0
        self._seconds.clear()
        return was_open

    def _schedule_probe(self) -> None:
        self._probe_at = self._clock() + self._pause_s * self._rng.uniform(1 - PROBE_JITTER, 1 + PROBE_JITTER)

    def _this_second(self) -> list[int]:
        second = int(self._clock())
        while self._seconds and self._seconds[0][0] <= second - WINDOW_S:
            self._seconds.popleft()
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append([second, 0, 0])
        return self._seconds[-1]
