"""Requests that come in the same turn of the event loop, answered together at its end.

They need no task, no parser and no scope each, and what they share is done once: one look-up of rows, one product of
matrices. While it goes on nobody reads the sockets, so that all that came meanwhile is the next turn's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol


class Waiting(NamedTuple):
    """A request that waits for the end of the turn."""

    data: bytes
    """All of it, as it came."""
    body: bytes
    arrived: float
    """By `time.perf_counter`."""


class Member(Protocol):
    """A connection whose request waits."""

    waiting: Waiting | None

    def answer(self, rest: bytes) -> None:
        """Send a good answer, from its content length on."""

    def decline(self) -> None:
        """Let the request go the ordinary way."""


class Answers(Protocol):
    """What answers bodies without waiting for anything; see `app.hot_path.HotPath`."""

    def answer_at_once(
        self, bodies: Sequence[bytes], arrived: Sequence[float], send: Callable[[int, bytes], None]
    ) -> None:
        """Send the places and good answers of bodies that came at times of `time.perf_counter`."""


class Crowd:
    """Answers the requests of a turn; one a process.

    Args:
        loop: the event loop.
        hot_path: has the answers.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, hot_path: Answers) -> None:
        self._loop = loop
        self._hot_path = hot_path
        self._members: list[tuple[Member, Waiting]] = []

    def join(self, member: Member, waiting: Waiting) -> None:
        """Let a connection's request, which has been admitted, wait for the end of the turn."""
        if not self._members:
            self._loop.call_soon(self._end_turn)
        self._members.append((member, waiting))
        member.waiting = waiting

    def _end_turn(self) -> None:
        members = [(member, waiting) for member, waiting in self._members if member.waiting is waiting]
        self._members = []
        bodies, arrived = [w.body for _, w in members], [w.arrived for _, w in members]
        self._hot_path.answer_at_once(bodies, arrived, lambda place, answer: members[place][0].answer(answer))
        for member, waiting in members:
            if member.waiting is waiting:
                member.decline()
