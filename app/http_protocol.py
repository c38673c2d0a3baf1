"""uvicorn's HTTP protocol with what it lacks: an end to requests that never end, and a gate before the queue.

uvicorn keeps a half-sent header or body open for ever, and a half-sent body holds up its shutdown.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.errors import Problem
from app.gate import Gate, refuse

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGIReceiveEvent, ASGISendCallable, Scope

REQUEST_S = 10.0
"""Seconds from a request's first byte, or from connecting, to its last byte."""
CONTINUE = b"HTTP/1.1 100 "
SCORED = {"/predict", "/rank"}
"""Paths that pass the gate; probes and metrics are answered whatever the load."""
UPGRADE = re.compile(rb"\r\nupgrade[ \t]*:", re.IGNORECASE)
UPGRADE_BEGUN = re.compile(rb"(\r\n)?\r(\n(u(p(g(r(a(d(e[ \t]*)?)?)?)?)?)?)?)?\Z", re.IGNORECASE)
ONCE = {b"content-length", b"host", b"content-type", b"transfer-encoding"}
"""Headers that two readers could understand differently when they come twice."""
MAX_HEAD_BYTES = 65_536
"""Of a request line and headers that came in more than one piece; what comes in one piece is no longer than a read."""
MAX_HEADERS = 128
MAX_LENGTH_DIGITS = 20
"""Python refuses to read integers of thousands of digits, leading zeros included."""


class HeadWithBody:
    """A transport that keeps an answer's head back until the first bytes of its body, so that both leave in one packet.

    uvicorn writes them apart, and with small answers the second system call costs more than all the rest of it. For
    answers that have a body only: nothing is sent of one that has none.
    """

    __slots__ = ("_head", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head: bytes | None = None

    def write(self, data: bytes) -> None:
        """Keep the head; send it with what comes next, and all else as it comes."""
        if self._head is None and not data.startswith(CONTINUE):
            self._head = data
        else:
            self._transport.write(self._head + data if self._head else data)
            if self._head:
                self._head = b""

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def is_closing(self) -> bool:
        """Return whether the connection is closed or about to be."""
        return self._transport.is_closing()


def _without_upgrade(data: bytes) -> tuple[bytes, bytes]:
    """Rename ``Upgrade`` in a request's head: Java's client asks for HTTP/2 in this way, with a body, and takes a no.

    Returns what the parser may read, and the end of an unfinished head that could still become that header.
    """
    head, end, body = data.partition(b"\r\n\r\n")
    begun = None if end else UPGRADE_BEGUN.search(head, max(0, len(head) - 64))
    held = head[begun.start() :] if begun else b""
    return UPGRADE.sub(b"\r\nX-Not-Upgraded:", head.removesuffix(held)) + end + body, held


async def _answer(cycle: RequestResponseCycle, app: ASGI3Application, gate: Gate, num_bytes: int) -> None:
    try:
        await cycle.run_asgi(app)
    finally:
        gate.leave(num_bytes)


async def _answer_chunked(cycle: RequestResponseCycle, app: ASGI3Application, gate: Gate) -> None:
    """Answer a request whose length nobody knows: its bytes are counted when the app takes them from the connection."""
    num_grown = 0

    async def receive() -> ASGIReceiveEvent:
        nonlocal num_grown
        message = await cycle.receive()
        if message["type"] == "http.request":
            num_bytes = len(message["body"])
            if not gate.grow(num_bytes):
                raise Problem("overloaded", headers={"Retry-After": "1"})
            num_grown += num_bytes
        return message

    async def counted(scope: Scope, _: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        await app(scope, receive, send)

    try:
        await cycle.run_asgi(counted)
    finally:
        gate.leave(0, num_grown)


class BoundedHttpProtocol(HttpToolsProtocol):
    """Closes connections whose request is not whole in time, and refuses requests with doubled or contradictory headers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_receiving = True
        self._head_bytes: int | None = 0
        """Bytes of a head that is not whole yet; None while a body is read."""
        self._held = b""
        """The end of what came of a head, which the parser has not seen."""
        self._timer: asyncio.TimerHandle | None = None
        self._gate: Gate | None = self.app_state.get("gate")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Give a new connection its time to send something."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(REQUEST_S, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer."""
        self._cancel_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; a request that came whole, as most do, never costs a timer."""
        if self.cycle is None or self.cycle.response_complete:
            self._is_receiving = True  # a line break between requests begins none, but takes uvicorn's own timer away
            if self._head_bytes is not None and (b"pgrade" in data[:2_048] or b"\r\n\r\n" not in data or self._held):
                data, self._held = _without_upgrade(self._held + data)
        super().data_received(data)
        if not self._is_receiving:
            self._cancel_timer()
            return
        if self._timer is None:
            self._timer = self.loop.call_later(REQUEST_S, self._give_up)
        if self._head_bytes is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("The head of the request is too long.")

    def on_message_begin(self) -> None:
        """Note that a request has begun."""
        self._is_receiving = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Refuse what a proxy in front could have read as another request."""
        self._head_bytes = None
        once = [header for header in self.headers if header[0] in ONCE]
        framing = dict(once)
        length, coding = framing.get(b"content-length"), framing.get(b"transfer-encoding")
        # The parser reports what is raised here, and the answer is 400.
        if len(once) != len(framing) or len(self.headers) > MAX_HEADERS:
            raise ValueError("doubled headers, or too many")
        if coding is not None and (length is not None or coding.strip().lower() != b"chunked"):
            raise ValueError("contradictory headers, or a body in another coding")
        if length is not None and len(length) > MAX_LENGTH_DIGITS:
            raise ValueError("a length of too many digits")
        self.scope["state"]["body_bytes"] = None if coding is not None else int(length or 0)
        if (length or coding) and self.parser.should_upgrade():
            raise ValueError("an upgrade with a body, which the parser would take for the next request")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that the request is whole."""
        self._is_receiving = False
        self._head_bytes = 0
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Begin to answer a request; a scored one only if the gate lets it in."""
        gate, scope = self._gate, cycle.scope
        if gate is None or scope["path"] not in SCORED:
            super()._start_asgi_task(cycle, app)
            return
        num_bytes: int | None = scope["state"]["body_bytes"]
        if not gate.enter(num_bytes or 0):
            super()._start_asgi_task(cycle, cast("ASGI3Application", refuse))
            return
        scope["state"]["arrived"] = time.perf_counter()
        if scope["method"] == "POST":
            cycle.transport = cast("asyncio.Transport", HeadWithBody(cycle.transport))
        task = self.loop.create_task(
            _answer_chunked(cycle, app, gate) if num_bytes is None else _answer(cycle, app, gate, num_bytes)
        )
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _give_up(self) -> None:
        self._timer = None
        self.transport.close()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
