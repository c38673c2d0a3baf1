"""The two ends of a scored request over uvicorn's connection: its body without waiting, its answer in one packet.

uvicorn sends an answer's head and body apart, and each packet wakes whoever waits for it, which takes longer than a
small request's arithmetic. Here an answer leaves whole, and answers that are ready in the same turn of the event loop
leave one right after the other: the first wakes the reader, the others find it awake.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from app.http.admission import Gate
from app.http.endpoint import CLOSE, CONTENT_TYPE
from app.problems import PROBLEMS, Problem

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveEvent, ASGISendEvent, HTTPResponseStartEvent


Headers = Iterable[tuple[bytes, bytes]]


class Outbox:
    """Answers that leave at the end of the event loop's turn; one a process.

    Args:
        loop: the event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ready: list[Exchange] = []

    def put(self, exchange: Exchange) -> None:
        """Take an exchange whose answer is ready."""
        if not self._ready:
            self._loop.call_soon(self._empty)
        self._ready.append(exchange)

    def _empty(self) -> None:
        ready, self._ready = self._ready, []
        for exchange in ready:
            exchange.finish()


class Exchange:
    """``receive`` and ``send`` of one ``POST`` request, as ASGI has them, on top of uvicorn's own.

    The body's last part is given once. Headers are not looked at as uvicorn does: they are the service's own.

    Args:
        cycle: uvicorn's request and response.
        gate: counts the bytes of a chunked body as they come.
        outbox: where answers wait while others are about to be ready.
        parts: to which the protocol adds the body as it comes, all of which is given at once; ``None`` for one of unknown
            length or that is to be asked for, which comes through uvicorn's buffer.
        is_chunked: whether nobody knows the body's length.
    """

    __slots__ = ("_answer", "_cycle", "_gate", "_is_chunked", "_outbox", "_parts", "_start", "num_grown")

    def __init__(
        self, cycle: RequestResponseCycle, gate: Gate, outbox: Outbox, parts: list[bytes] | None, *, is_chunked: bool
    ) -> None:
        self._cycle = cycle
        self._gate = gate
        self._outbox = outbox
        self._parts = parts
        self._is_chunked = is_chunked
        self._start: HTTPResponseStartEvent | None = None
        self._answer = b""
        self.num_grown = 0
        """Bytes of a chunked body so far."""

    async def receive(self) -> ASGIReceiveEvent:
        """Return the whole body, or the next part of one that comes through uvicorn's buffer.

        Raises:
            Problem: ``overloaded``, by a chunked body that has grown too much.
        """
        cycle, parts = self._cycle, self._parts
        if parts is not None:
            while cycle.more_body and not cycle.disconnected:
                cycle.message_event.clear()
                await cycle.message_event.wait()
            if cycle.disconnected or cycle.response_complete:
                return {"type": "http.disconnect"}
            body = parts[0] if len(parts) == 1 else b"".join(parts)
            parts.clear()
            return {"type": "http.request", "body": body, "more_body": False}
        if self._is_chunked:
            message = await cycle.receive()
            if message["type"] == "http.request":
                num_bytes = len(message["body"])
                if not self._gate.grow(num_bytes):
                    raise Problem("overloaded", headers={"Retry-After": "1"})
                self.num_grown += num_bytes
            return message
        return await cycle.receive()

    async def send(self, message: ASGISendEvent) -> None:
        """Send an answer that comes in one part; others, and a connection's last, in uvicorn's way."""
        if message["type"] == "http.response.start":
            self._start = message
            return
        start, cycle = self._start, self._cycle
        is_whole = message["type"] == "http.response.body" and not message.get("more_body", False)
        if (
            start is None
            or not is_whole
            or not cycle.keep_alive
            or cycle.flow.write_paused
            or CLOSE in start["headers"]
        ):
            if start is not None:
                self._start = None
                await cycle.send(start)
            await cycle.send(message)
            return
        self._answer = _whole(cycle.default_headers, start["status"], start["headers"], message["body"])  # type: ignore[typeddict-item]
        cycle.response_started = True
        if self._gate.num_requests > 1:
            self._outbox.put(self)
        else:
            self.finish()

    def finish(self) -> None:
        """Write the answer; until then the server knows the request to be unanswered, and will not close its connection."""
        cycle = self._cycle
        if cycle.disconnected or cycle.transport.is_closing():
            return
        _write(cycle, self._answer)


_STATUS, _TITLE = PROBLEMS["overloaded"]
_BODY = orjson.dumps({"type": "about:blank", "title": _TITLE, "status": _STATUS, "code": "overloaded"})
_REFUSAL = [
    (b"content-type", b"application/problem+json"),
    (b"content-length", b"%d" % len(_BODY)),
    (b"retry-after", b"1"),
]


def refuse(cycle: RequestResponseCycle) -> None:
    """Answer ``overloaded`` at once, with no task and without the body, which is thrown away as it comes."""
    cycle.response_started = True
    _write(cycle, refusal(tuple(cycle.default_headers), keep_alive=cycle.keep_alive))


@lru_cache(maxsize=2)
def refusal(server_headers: tuple[tuple[bytes, bytes], ...], *, keep_alive: bool) -> bytes:
    """Return the answer ``overloaded``; the server's own headers change once a second, with the date."""
    return _whole(server_headers, _STATUS, _REFUSAL if keep_alive else [*_REFUSAL, CLOSE], _BODY)


@lru_cache(maxsize=2)
def beginning_of_good(server_headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """Return a good answer up to its content type, which the next header follows."""
    return _whole(server_headers, 200, [CONTENT_TYPE], b"").removesuffix(b"\r\n")


def _whole(server_headers: Headers, status: int, headers: Headers, body: bytes) -> bytes:
    parts = [STATUS_LINE[status]]
    for name, value in (*server_headers, *headers):
        parts += name, b": ", value, b"\r\n"
    parts += b"\r\n", body
    return b"".join(parts)


def _write(cycle: RequestResponseCycle, answer: bytes) -> None:
    cycle.transport.write(answer)
    cycle.response_complete = True
    cycle.message_event.set()
    if not cycle.keep_alive:  # the server is stopping
        cycle.transport.close()
    cycle.on_response()
    cycle.on_response = _nothing  # it refers to the connection, which refers to it


def _nothing() -> None:
    """Do nothing."""
