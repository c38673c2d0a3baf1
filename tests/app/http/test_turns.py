from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from app.http.turns import FEW, MANY, PATIENCE, WATCH_S, Turns


class Clockwork:
    """An event loop and a clock that a test turns."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.called: list[Callable[[], None]] = []
        monkeypatch.setattr("app.http.turns.perf_counter", lambda: self.now)
        self.turns = Turns(cast(asyncio.AbstractEventLoop, self))

    def call_soon(self, function: Callable[[], None]) -> None:
        self.called.append(function)

    def turn(self, num_requests: int = 0) -> None:
        """A turn of the loop, in which so many requests come."""
        called, self.called = self.called, []
        for function in called:
            function()
        for _ in range(num_requests):
            self.turns.note(self.now)

    def request(self, after_s: float) -> None:
        """A request that comes so long after the last answer and is answered at once."""
        self.now += after_s
        self.turn(1)
        self.turns.rest()

    def is_quiet(self) -> bool:
        """Whether a request that comes now would be answered at once."""
        return self.turns.is_quiet

    def sleeps(self) -> bool:
        """Whether nothing keeps the loop from sleeping."""
        return not self.called


def test_requests_that_come_alone_are_quiet_and_crowds_are_not_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clockwork(monkeypatch)
    for _ in range(3):
        assert clock.is_quiet()
        clock.turn(1)
    clock.turn()
    clock.turn(MANY)
    assert not clock.is_quiet()  # it would be one too many in this turn
    clock.turn()
    assert clock.is_quiet()
    clock.turn(MANY + 1)
    for _ in range(PATIENCE):
        clock.turn(FEW)
        assert not clock.is_quiet()
        clock.turn(FEW + 1)  # counts for neither
        clock.turn()
    clock.turn()
    assert clock.is_quiet()


def test_the_loop_looks_for_the_next_request_only_where_the_last_came_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clockwork(monkeypatch)
    clock.request(1.0)
    clock.turn()
    assert clock.sleeps()
    clock.request(WATCH_S / 2)
    for _ in range(10):
        clock.now += WATCH_S / 11
        clock.turn()
        assert not clock.sleeps()
        assert len(clock.called) == 1
    clock.now += WATCH_S / 5
    clock.turn()
    assert clock.sleeps()  # none has come in time
    clock.request(2 * WATCH_S)
    clock.turn()
    assert clock.sleeps()
    clock.request(WATCH_S / 2)
    clock.turn(1)  # is being answered, and may have to wait for Redis
    clock.turn()
    assert clock.sleeps()
