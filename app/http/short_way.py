"""The short way of a scored request whose head is known: no parser, task or scope of its own.

It is answered within the call that brings its bytes where nobody waits, else together with the others of the same turn.
Whatever is not plain and good goes the ordinary way, from its first byte on, and nobody can tell the difference.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from app.http.crowd import Crowd
from app.http.endpoint import HotPath
from app.http.guarded_protocol import BoundedHttpProtocol
from app.http.http_exchange import beginning_of_good, refusal
from app.http.known_head import KnownHead, KnownRequest

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

MAX_LEARNT = 8
"""Heads of a connection that are learnt; a client whose heads change all the time goes the ordinary way."""


class ShortWayProtocol(BoundedHttpProtocol):
    """Takes requests with a known head away from the parser, and answers, refuses or returns them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self._gate is not None:
            self._hot_path: HotPath = self.app_state["hot_path"]
            self._crowd: Crowd = self.app_state["crowd"]
        self.waiting: KnownRequest | None = None
        """A request that waits for its answer, of which the parser knows nothing."""
        self._known: KnownHead | None = None
        self._is_strange = True
        """Whether the next request's head is to be learnt."""
        self._num_learnt = 0
        self._server_headers: object = None
        self._opening = b""
        """The beginning of a good answer with those headers; uvicorn makes them anew each second, with the date."""
        self._active_at = 0.0
        """When a request was last answered on this way, by the loop's clock."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what waits."""
        self._take_back()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Answer, or parse."""
        if self.cycle is None or self.cycle.response_complete:
            if self.waiting is not None:
                data = self._take_back() + data
            elif self._known is not None and not self._is_receiving and self._take(self._known, data):
                return
        super().data_received(data)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        if self._is_strange and self._gate is not None and self._num_learnt < MAX_LEARNT:
            self._learn_head(cycle)
        super()._start_asgi_task(cycle, app)

    def _learn_head(self, cycle: RequestResponseCycle) -> None:
        headers = dict(cycle.scope["headers"])
        path = cycle.scope["path"]
        if cycle is self.cycle and cycle.keep_alive and self._hot_path.is_plain(path, headers):
            self._num_learnt += 1
            self._known = KnownHead.learn(self._begun, path, headers, self._known) or self._known
            self._is_strange = self._known is None

    def _take(self, known: KnownHead, data: bytes) -> bool:
        """Take a request whose head is known away from the parser: answer it, let it wait with others, or refuse it."""
        arrived, gate, turns = time.perf_counter(), self._gate, self._turns
        request = known.read(data, arrived)
        if request is None:
            self._is_strange = True
            return False
        if gate is None or self.flow.write_paused:
            return False
        num_bytes = len(data) - request.start
        if turns.is_quiet and not gate.num_requests and not self._hot_path.may_wait():
            if request.is_late or not self._hot_path.admits(known.path, known.headers, num_bytes):
                return False
            num_answered = self.server_state.total_requests
            self._hot_path.answer_at_once([request], self._send)
            if self.server_state.total_requests == num_answered:
                self._taken_at = arrived
                return False
            turns.note(arrived)
            turns.rest()
            return True
        if not gate.enter(num_bytes):
            self._write(refusal(tuple(self.server_state.default_headers), keep_alive=True))
            return True
        if not self._hot_path.admits(known.path, known.headers, num_bytes):
            gate.leave(num_bytes)
            return False
        turns.note(arrived)
        self._crowd.join(self, request)
        return True

    def answer(self, rest: bytes) -> None:
        """Send the good answer of the request that waits, from its content length on."""
        gate, waiting, self.waiting = self._gate, self.waiting, None
        assert gate is not None
        assert waiting is not None
        gate.leave(len(waiting.data) - waiting.start)
        self._send(0, rest)
        if gate.num_requests == 0:
            self._turns.rest()

    def decline(self) -> None:
        """Give the request that waits to the parser."""
        super().data_received(self._take_back())

    def _take_back(self) -> bytes:
        gate, waiting, self.waiting = self._gate, self.waiting, None
        if gate is None or waiting is None:
            return b""
        gate.leave(len(waiting.data) - waiting.start)
        self._taken_at = waiting.arrived
        return waiting.data

    def _send(self, _: int, rest: bytes) -> None:
        headers = self.server_state.default_headers
        if headers is not self._server_headers:
            self._server_headers, self._opening = headers, beginning_of_good(tuple(headers))
        self._write(self._opening + rest)

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
        """Close a connection that has been idle for so long; answers on this way leave the timer alone."""
        rest_s = self._active_at + self.timeout_keep_alive - self.loop.time()
        if self.waiting is not None:
            rest_s = self.timeout_keep_alive
        if rest_s > 0:
            self.timeout_keep_alive_task = self.loop.call_later(rest_s, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()
