"""uvicorn's HTTP protocol with what it lacks: an end to requests that never end, and a gate before the queue.

uvicorn keeps a half-sent header or body open for ever, and a half-sent body holds up its shutdown.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.http.admission import Gate
from app.http.http_exchange import Exchange, Outbox, refuse
from app.http.turns import Turns

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

log = logging.getLogger("ctrserve")

REQUEST_S = 10.0
"""Seconds from a request's first byte, or from connecting, to its last byte."""
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


def _without_upgrade(data: bytes) -> tuple[bytes, bytes]:
    """Rename ``Upgrade`` in a request's head: Java's client asks for HTTP/2 in this way, with a body, and takes a no.

    Returns what the parser may read, and the end of an unfinished head that could still become that header.
    """
    head, end, body = data.partition(b"\r\n\r\n")
    begun = None if end else UPGRADE_BEGUN.search(head, max(0, len(head) - 64))
    held = head[begun.start() :] if begun else b""
    return UPGRADE.sub(b"\r\nX-Not-Upgraded:", head.removesuffix(held)) + end + body, held


async def _answer(
    cycle: RequestResponseCycle,
    app: ASGI3Application,
    gate: Gate,
    turns: Turns,
    outbox: Outbox,
    num_bytes: int | None,
    parts: list[bytes] | None,
) -> None:
    exchange = Exchange(cycle, gate, outbox, parts, is_chunked=num_bytes is None)
    try:
        await app(cycle.scope, exchange.receive, exchange.send)
    except Exception:  # the app answers its handlers' defects; nothing of its own may leave a request unanswered
        log.exception("a defect before the handlers")
        if not cycle.response_started:
            await cycle.send_500_response()
    finally:
        gate.leave(num_bytes or 0, exchange.num_grown)
        if gate.num_requests == 0:
            turns.rest()


class BoundedHttpProtocol(HttpToolsProtocol):
    """Closes connections whose request is not whole in time, and refuses requests with doubled or contradictory headers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_receiving = True
        self._head_bytes: int | None = 0
        """Bytes of a head that is not whole yet; None while a body is read."""
        self._held = b""
        """The end of what came of a head, which the parser has not seen."""
        self._parts: list[bytes] | None = None
        """Of the body that comes now, where the gate has counted all of it; None: it goes through uvicorn's buffer."""
        self._timer: asyncio.TimerHandle | None = None
        self._gate: Gate | None = self.app_state.get("gate")
        self._begun = b""
        """What came with the beginning of a request, as the parser reads it."""
        if self._gate is not None:
            self._turns: Turns = self.app_state["turns"]
        self._taken_at: float | None = None
        """When the request that the parser is about to read came, if it was admitted and counted for its key's quota then."""

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
            self._begun = data
        super().data_received(data)
        self._begun = b""
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
        self._parts = None
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body: uvicorn's buffer copies it twice, and stops reading at 64 KiB until it is emptied."""
        if self._parts is None:
            super().on_body(body)
        elif not self.cycle.response_complete:
            self._parts.append(body)

    def on_message_complete(self) -> None:
        """Note that the request is whole."""
        self._is_receiving = False
        self._head_bytes = 0
        self._begun = b""
        super().on_message_complete()
        if self.cycle.response_complete and self.timeout_keep_alive_task is None and not self.transport.is_closing():
            # It was answered before its body had come, which took uvicorn's timer away.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Begin to answer a request; a scored one only if the gate lets it in."""
        gate, scope = self._gate, cycle.scope
        taken_at, self._taken_at = self._taken_at, None
        scope["state"]["is_counted"] = taken_at is not None
        if gate is None or scope["path"] not in SCORED or scope["method"] != "POST":
            super()._start_asgi_task(cycle, app)
            return
        num_bytes: int | None = scope["state"]["body_bytes"]
        if not gate.enter(num_bytes or 0):
            refuse(cycle)
            return
        parts: list[bytes] | None = None
        # A pipelined request's turn may come after its body.
        if num_bytes is not None and cycle is self.cycle and not cycle.body and not cycle.waiting_for_100_continue:
            parts = self._parts = []
        scope["state"]["arrived"] = arrived = taken_at or time.perf_counter()
        self._turns.note(arrived)
        task = self.loop.create_task(_answer(cycle, app, gate, self._turns, self.app_state["outbox"], num_bytes, parts))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _give_up(self) -> None:
        self._timer = None
        self.transport.close()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
