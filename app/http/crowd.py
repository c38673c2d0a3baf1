"""Requests that come in the same turn of the event loop, answered together at its end.

They need no task, no parser and no scope each, and what they share is done once: one look-up of rows, one product of
matrices, one question to Redis where rows have to come from there. While they are answered nobody reads the sockets, so
that all that came meanwhile is the next turn's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from app.http.known_head import KnownRequest

SendAnswer = Callable[[int, bytes], None]
"""Takes the place of a request among those that were asked, and its good answer from its content length on."""


class Member(Protocol):
    """A connection whose request waits."""

    waiting: KnownRequest | None

    def answer(self, rest: bytes) -> None:
        """Send a good answer, from its content length on."""

    def decline(self) -> None:
        """Let the request go the ordinary way."""


class Answers(Protocol):
    """What answers requests together; see `app.http.endpoint.HotPath`."""

    def may_wait(self) -> bool:
        """Return whether there may be something to wait for now."""

    def answer_at_once(self, requests: Sequence[KnownRequest], send: SendAnswer) -> None:
        """Send the good answers of requests that need nothing more."""

    async def answer_soon(self, requests: Sequence[KnownRequest], send: SendAnswer) -> None:
        """Do the same, waiting for what has to be waited for."""


class Crowd:
    """Answers the requests of a turn; one a process.

    Args:
        loop: the event loop.
        hot_path: has the answers.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, hot_path: Answers) -> None:
        self._loop = loop
        self._hot_path = hot_path
        self._members: list[tuple[Member, KnownRequest]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def join(self, member: Member, request: KnownRequest) -> None:
        """Let a connection's request, which has been admitted, wait for the end of the turn."""
        if not self._members:
            self._loop.call_soon(self._end_turn)
        self._members.append((member, request))
        member.waiting = request

    def _end_turn(self) -> None:
        joined, self._members = self._members, []
        members = []
        for member, request in joined:
            if member.waiting is not request:
                continue
            if request.is_late:
                member.decline()
            else:
                members.append((member, request))
        if self._hot_path.may_wait():
            task = self._loop.create_task(self._answer_soon(members))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._hot_path.answer_at_once([request for _, request in members], _sender(members))
            _decline_rest(members)

    async def _answer_soon(self, members: Sequence[tuple[Member, KnownRequest]]) -> None:
        await self._hot_path.answer_soon([request for _, request in members], _sender(members))
        _decline_rest(members)


def _sender(members: Sequence[tuple[Member, KnownRequest]]) -> SendAnswer:
    def send(place: int, rest: bytes) -> None:
        member, request = members[place]
        if member.waiting is request:  # its client may have gone, or sent more, while rows were waited for
            member.answer(rest)

    return send


def _decline_rest(members: Sequence[tuple[Member, KnownRequest]]) -> None:
    for member, request in members:
        if member.waiting is request:
            member.decline()
