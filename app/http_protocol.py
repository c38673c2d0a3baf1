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

from app.crowd import Crowd, Waiting
from app.gate import Gate
from app.hot_path import HotPath
from app.http_exchange import Exchange, Outbox, beginning_of_good, refusal, refuse
from app.known_head import KnownHead
from app.turns import Turns

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
            self._hot_path: HotPath = self.app_state["hot_path"]
            self._crowd: Crowd = self.app_state["crowd"]
        self.waiting: Waiting | None = None
        """A request that waits for the end of the turn, of which the parser knows nothing."""
        self._is_counted = False
        """Whether the request that the parser is about to read was counted for its key's quota."""
        self._known: KnownHead | None = None
        self._is_first = True
        """Whether no scored request has come yet, whose head could be known."""
        self._active_at = 0.0
        """When the parser was last spared a request, by the loop's clock."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Give a new connection its time to send something."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(REQUEST_S, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer, and what waits."""
        self._cancel_timer()
        self._take_back()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Answer, or parse; a request that came whole, as most do, never costs a timer."""
        if self.cycle is None or self.cycle.response_complete:
            if self.waiting is not None:
                data = self._take_back() + data
            elif self._known is not None and not self._is_receiving and self._take(self._known, data):
                return
        self._parse(data)

    def _parse(self, data: bytes) -> None:
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
        super().on_message_complete()
        if self.cycle.response_complete and self.timeout_keep_alive_task is None and not self.transport.is_closing():
            # It was answered before its body had come, which took uvicorn's timer away.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Begin to answer a request; a scored one only if the gate lets it in."""
        gate, scope = self._gate, cycle.scope
        scope["state"]["is_counted"], self._is_counted = self._is_counted, False
        if gate is None or scope["path"] not in SCORED or scope["method"] != "POST":
            super()._start_asgi_task(cycle, app)
            return
        if self._is_first:
            self._is_first = False
            self._learn_head(cycle)
        num_bytes: int | None = scope["state"]["body_bytes"]
        if not gate.enter(num_bytes or 0):
            refuse(cycle)
            return
        parts: list[bytes] | None = None
        # A pipelined request's turn may come after its body.
        if num_bytes is not None and cycle is self.cycle and not cycle.body and not cycle.waiting_for_100_continue:
            parts = self._parts = []
        scope["state"]["arrived"] = arrived = time.perf_counter()
        self._turns.note(arrived)
        task = self.loop.create_task(_answer(cycle, app, gate, self._turns, self.app_state["outbox"], num_bytes, parts))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _learn_head(self, cycle: RequestResponseCycle) -> None:
        headers = dict(cycle.scope["headers"])
        path = cycle.scope["path"]
        if cycle is self.cycle and cycle.keep_alive and self._hot_path.is_plain(path, headers):
            self._known = KnownHead.learn(self._begun, path, headers)

    def _take(self, known: KnownHead, data: bytes) -> bool:
        """Take a request whose head is known away from the parser: answer it, let it wait with others, or refuse it."""
        arrived, gate, turns = time.perf_counter(), self._gate, self._turns
        start = known.body_start(data)
        if start is None or gate is None or self.flow.write_paused or self.transport.is_closing():
            return False
        num_bytes = len(data) - start
        if turns.is_quiet and not gate.num_requests:
            if not self._hot_path.admits_at_once(known.path, known.headers, num_bytes):
                return False
            num_answered = self.server_state.total_requests
            self._hot_path.answer_at_once([data[start:]], [arrived], self._send)
            if self.server_state.total_requests == num_answered:
                self._is_counted = True
                return False
            turns.note(arrived)
            turns.rest()
            return True
        if not gate.enter(num_bytes):
            self._write(refusal(tuple(self.server_state.default_headers), keep_alive=True))
            return True
        if not self._hot_path.admits_at_once(known.path, known.headers, num_bytes):
            gate.leave(num_bytes)
            return False
        turns.note(arrived)
        self._crowd.join(self, Waiting(data, data[start:], arrived))
        return True

    def answer(self, rest: bytes) -> None:
        """Send the good answer of the request that waits, from its content length on."""
        gate, waiting, self.waiting = self._gate, self.waiting, None
        assert gate is not None
        assert waiting is not None
        gate.leave(len(waiting.body))
        self._send(0, rest)
        if gate.num_requests == 0:
            self._turns.rest()

    def decline(self) -> None:
        """Give the request that waits to the parser."""
        self._parse(self._take_back())

    def _take_back(self) -> bytes:
        gate, waiting, self.waiting = self._gate, self.waiting, None
        if gate is None or waiting is None:
            return b""
        gate.leave(len(waiting.body))
        self._is_counted = True
        return waiting.data

    def _send(self, _: int, rest: bytes) -> None:
        self._write(beginning_of_good(tuple(self.server_state.default_headers)) + rest)

    def _write(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(answer)
        self.server_state.total_requests += 1
        self._active_at = self.loop.time()

    def shutdown(self) -> None:
        """Close the connection when what it asks is answered."""
        if self.waiting is not None:
            self.decline()
        super().shutdown()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that has been idle for so long; answers at once leave the timer alone."""
        rest_s = self._active_at + self.timeout_keep_alive - self.loop.time()
        if self.waiting is not None:
            rest_s = self.timeout_keep_alive
        if rest_s > 0:
            self.timeout_keep_alive_task = self.loop.call_later(rest_s, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    def _give_up(self) -> None:
        self._timer = None
        self.transport.close()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
