"""The event loop's turns: whether requests come alone or in crowds, and a moment's watch for the next before the loop sleeps.

A process that sleeps until its next request loses more time in being woken than a small request's arithmetic takes.
"""

from __future__ import annotations

import asyncio
import os
from time import perf_counter

MANY = 2
"""Requests of one turn that are answered one by one; more gain by being answered together."""
FEW = 1
"""Requests of one turn that are no crowd; between the two all stays as it is."""
PATIENCE = 64
"""Turns of no more than few requests after which they are answered one by one again."""
WATCH_S = 60e-6
"""How long the loop looks for the next request instead of sleeping, where the last one came within that time of an answer."""


class Turns:
    """Notes the scored requests of each turn; one a process.

    Args:
        loop: the event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.is_quiet = True
        """Whether a request that comes now is one of few."""
        self._loop = loop
        self._num_requests = 0
        self._patience = 0
        self._is_followed = False
        self._is_brisk = False
        self._rested_at = 0.0
        self._watch_until = 0.0

    def note(self, arrived: float) -> None:
        """Count a scored request that has come, at a time of `time.perf_counter`."""
        self._num_requests += 1
        if self._num_requests > 1:
            if self._num_requests >= MANY:
                self.is_quiet = False
                if self._num_requests > MANY:
                    self._patience = PATIENCE
            return
        self._is_brisk = arrived - self._rested_at < WATCH_S
        self._watch_until = 0.0
        self._follow()

    def rest(self) -> None:
        """Note that all requests have been answered."""
        self._rested_at = perf_counter()
        if self._is_brisk:
            self._watch_until = self._rested_at + WATCH_S
            self._follow()

    def _follow(self) -> None:
        if not self._is_followed:
            self._is_followed = True
            self._loop.call_soon(self._end)

    def _end(self) -> None:
        # What is called soon lets the loop look for requests without sleeping.
        if self._patience and 0 < self._num_requests <= FEW:
            self._patience -= 1
        self.is_quiet = not self._patience
        self._num_requests = 0
        self._is_followed = False
        if perf_counter() < self._watch_until:
            os.sched_yield()  # who else wants this core goes first
            self._follow()
