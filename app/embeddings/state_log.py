"""Log lines on changes of Redis's state, at most one a second, so that a flapping server cannot flood the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

log = logging.getLogger("ctrserve.redis")

EVERY_S = 1.0


class StateLog:
    """Writes at most one line a second; of several lines within a second, the last is written when it is over.

    Args:
        clock: seconds, never going back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._said_at = clock() - EVERY_S
        self._unsaid: tuple[int, str] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def say(self, level: int, line: str) -> None:
        """Log the line now, or a second after the last one unless a newer line replaces it."""
        self._unsaid = (level, line)
        if self._timer is None:
            wait_s = self._said_at + EVERY_S - self._clock()
            if wait_s <= 0:
                self._say_now()
            else:
                self._timer = asyncio.get_running_loop().call_later(wait_s, self._say_now)

    def close(self) -> None:
        """Drop a line that has not been written yet."""
        self._unsaid = None
        if self._timer is not None:
            self._timer.cancel()

    def _say_now(self) -> None:
        self._timer = None
        if self._unsaid is not None:
            log.log(*self._unsaid)
            self._said_at, self._unsaid = self._clock(), None


def describe(reason: object) -> str:
    """Return a short description of an error that is safe in a log line, whatever the server wrote into it.

    >>> describe(ValueError("two\\nlines"))
    "ValueError 'two\\\\nlines'"
    """
    return f"{type(reason).__name__} {str(reason)[:200]!r}"
