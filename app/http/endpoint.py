"""The way of a scored request: bytes of the socket → handler → bytes of the answer, with no framework in between.

Everything else, wrong methods on these paths too, goes on to the FastAPI app.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.api_keys import KeyFile
from app.http.crowd import SendAnswer
from app.http.deadlines import is_late, milliseconds
from app.http.known_head import KnownRequest
from app.observability.logs import RequestLog
from app.observability.metrics import Telemetry
from app.observability.tracing import begin_trace
from app.problems import Problem

log = logging.getLogger("ctrserve")

Handler = Callable[[bytes], Awaitable[bytes]]


class Together(NamedTuple):
    """How bodies on one path are answered several at once."""

    path: str
    may_wait: Callable[[], bool]
    """Whether something may have to be waited for now."""
    answer: Callable[[Sequence[bytes], SendAnswer], None]
    """Takes bodies, and sends the good answer of each that needs nothing more; the others are left out."""
    answer_soon: Callable[[Sequence[bytes], SendAnswer], Awaitable[None]]
    """Does the same, waiting for what has to be waited for."""


JSON_TYPES = {b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8"}
CONTENT_TYPE = (b"content-type", b"application/json")
CLOSE = (b"connection", b"close")
NOT_PLAIN = {b"content-encoding", b"expect"}


class HotPath:
    """The whole service as an ASGI app: answers ``POST`` on some paths itself; admits, traces, counts and times all requests.

    Args:
        app: what answers all else.
        handlers: by path; each takes a body and returns a JSON answer, or raises `Problem`.
        together: the same for good bodies, several at once; ``None``: there is none.
        paths: other paths that have a label of their own in the metrics; the rest share ``other``.
        max_body_bytes: longer bodies are refused, unread where their length is announced.
        telemetry: counts requests by path and status.
        keys: who may call what; ``None``: everybody may.
    """

    def __init__(
        self,
        app: ASGIApp,
        handlers: Mapping[str, Handler],
        together: Together | None,
        paths: tuple[str, ...],
        max_body_bytes: int,
        telemetry: Telemetry,
        keys: KeyFile | None,
    ) -> None:
        self.is_draining = False
        self._app = app
        self._handlers = handlers
        self._together = together
        self._max_body_bytes = max_body_bytes
        self._keys = keys
        self._requests = telemetry.requests
        self._count_late = telemetry.shed.labels("deadline").inc
        labels = (*handlers, *paths, "other")
        self._observe = {path: telemetry.request_seconds.labels(path).observe for path in labels}
        self._count_ok = {path: telemetry.requests.labels(path, "200").inc for path in handlers}
        self._log = RequestLog()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path, headers = scope["path"], dict(scope["headers"])
        request = _Request(path if path in self._observe else "other", headers)
        if self._keys is not None:
            is_counted = scope.get("state", {}).get("is_counted", False)
            request.key, problem = self._keys.admit(path, headers, is_counted=is_counted)
            if problem is not None:
                await self._refuse(problem, request, scope, receive, send)
                return
        handler = self._handlers.get(path) if scope["method"] == "POST" else None
        if handler is None:
            await self._pass_on(request, scope, receive, send)
            return
        try:
            body = await read_json_body(headers, receive, self._max_body_bytes)
            deadline = headers.get(b"x-request-timeout-ms")
            if deadline is not None:  # not before: a body that comes in parts is waited for, while others are answered
                _check_deadline(deadline, scope)
            answer = await handler(body)
        except Problem as problem:
            await self._refuse(problem, request, scope, receive, send)
            return
        except Exception:  # whatever a handler has wrong, the request is answered and the others go on
            log.exception("a defect on the path %s", path, extra={"request_id": request.id})
            await self._refuse(Problem("internal_error"), request, scope, receive, send)
            return
        head = [CONTENT_TYPE, (b"content-length", b"%d" % len(answer)), (b"traceparent", request.traceparent)]
        if self.is_draining:
            head.append(CLOSE)
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": answer})
        self._observe[path](time.perf_counter() - request.started)
        self._count_ok[path]()

    def is_plain(self, path: str, headers: Mapping[bytes, bytes]) -> bool:
        """Return whether a ``POST``'s path and headers ask for nothing that `answer_at_once` does not do."""
        is_together = self._together is not None and path == self._together.path
        return is_together and headers.get(b"content-type") in JSON_TYPES and headers.keys().isdisjoint(NOT_PLAIN)

    def admits(self, path: str, headers: Mapping[bytes, bytes], num_bytes: int) -> bool:
        """Return whether a plain request with a body of so many bytes may be answered together with others.

        If so it is counted for its key's quota, and if it goes the ordinary way after all ``is_counted`` is to be in its state.
        """
        if self._together is None or self.is_draining or num_bytes > self._max_body_bytes:
            return False
        return self._keys is None or self._keys.admit(path, headers)[1] is None

    def may_wait(self) -> bool:
        """Return whether there may be something to wait for now, so that `answer_at_once` would answer few."""
        return self._together is None or self._together.may_wait()

    def answer_at_once(self, requests: Sequence[KnownRequest], send: SendAnswer) -> None:
        """Send the good answer, from its content length on, of each request that needs nothing more.

        With what is left nothing was done; it is to go the ordinary way, where its faults are told.

        Args:
            requests: plain, and admitted.
            send: takes a request's place and its answer.
        """
        assert self._together is not None  # nothing is admitted
        try:
            self._together.answer([request.body for request in requests], self._finisher(requests, send))
        except Problem:
            pass  # whose it is shows where each is answered by itself
        except Exception:  # whatever it was, those that are left are answered by themselves, and the others go on
            log.exception("a defect in answering at once")

    async def answer_soon(self, requests: Sequence[KnownRequest], send: SendAnswer) -> None:
        """Do what `answer_at_once` does, waiting for what has to be waited for."""
        assert self._together is not None  # nothing is admitted
        try:
            await self._together.answer_soon([request.body for request in requests], self._finisher(requests, send))
        except Problem:
            pass  # whose it is shows where each is answered by itself
        except Exception:  # a task's defect would leave all who wait unanswered; so they are answered by themselves
            log.exception("a defect in answering together")

    def _finisher(self, requests: Sequence[KnownRequest], send: SendAnswer) -> SendAnswer:
        """Return what takes places and answers, counts them and gives them their headers."""
        assert self._together is not None
        observe, count_ok = self._observe[self._together.path], self._count_ok[self._together.path]

        def finish(place: int, answer: bytes) -> None:
            request = requests[place]
            observe(time.perf_counter() - request.arrived)
            count_ok()
            trace = begin_trace(request.traceparent)
            send(place, b"content-length: %d\r\ntraceparent: %b\r\n\r\n%b" % (len(answer), trace, answer))

        return finish

    async def _refuse(self, problem: Problem, request: _Request, scope: Scope, receive: Receive, send: Send) -> None:
        if problem.code == "deadline_exceeded":
            self._count_late()
        response = problem.response(request.id)
        response.raw_headers.append((b"traceparent", request.traceparent))
        await response(scope, receive, send)
        self._note(request, response.status_code, problem.code)

    async def _pass_on(self, request: _Request, scope: Scope, receive: Receive, send: Send) -> None:
        status = 500

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"traceparent", request.traceparent)]
                if self.is_draining:
                    message["headers"].append(CLOSE)
            await send(message)

        app = self._app
        if self.is_draining and request.label == "/health/ready":
            app = Problem("draining").response(request.id)
        scope.setdefault("state", {})["request_id"] = request.id
        try:
            await app(scope, receive, note)
        except Exception:  # FastAPI has answered it, and raises it once more for somebody to log it
            log.exception("a defect on the path %s", request.label, extra={"request_id": request.id})
        self._note(request, status, None)

    def _note(self, request: _Request, status: int, code: str | None) -> None:
        seconds = time.perf_counter() - request.started
        self._observe[request.label](seconds)
        self._requests.labels(request.label, str(status)).inc()
        if status >= 400:
            self._log.note(request.label, status, code, request.id, request.key, seconds)


class _Request:
    """What is known of a request apart from its body: the path's label in the metrics, ids, the key's name, its start."""

    __slots__ = ("key", "label", "started", "traceparent")

    def __init__(self, label: str, headers: Mapping[bytes, bytes]) -> None:
        self.started = time.perf_counter()
        self.label = label
        self.key: str | None = None
        self.traceparent = begin_trace(headers.get(b"traceparent"))

    @property
    def id(self) -> str:
        """The trace id."""
        return self.traceparent[3:35].decode()


async def read_json_body(headers: Mapping[bytes, bytes], receive: Receive, max_bytes: int) -> bytes:
    """Read a request's body up to ``max_bytes``.

    Args:
        headers: of the request.
        receive: of the ASGI request.
        max_bytes: longer bodies are refused.

    Raises:
        Problem: ``unsupported_media_type``, ``body_too_large``, ``incomplete_body``.
    """
    media_type = headers.get(b"content-type", b"")
    if b"content-encoding" in headers:
        raise Problem("unsupported_media_type")
    if media_type not in JSON_TYPES and media_type.lower().replace(b'"', b"") not in JSON_TYPES:
        raise Problem("unsupported_media_type")
    if int(headers.get(b"content-length", b"0")) > max_bytes:
        raise Problem("body_too_large", f"at most {max_bytes} bytes")
    message = await receive()
    body: bytes = message.get("body", b"")
    if message["type"] == "http.request" and not message.get("more_body", False):
        if len(body) > max_bytes:
            raise Problem("body_too_large", f"at most {max_bytes} bytes")
        return body
    parts, size = [body], len(body)
    while message["type"] == "http.request" and message.get("more_body", False):
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > max_bytes:
            raise Problem("body_too_large", f"at most {max_bytes} bytes")
    if message["type"] != "http.request":
        raise Problem("incomplete_body")
    return b"".join(parts)


def _check_deadline(timeout_ms: bytes, scope: Scope) -> None:
    # Before the body is parsed: a request whose time has passed costs nothing more.
    if math.isnan(milliseconds(timeout_ms)):
        raise Problem("invalid_input", "X-Request-Timeout-Ms is no number of milliseconds")
    if is_late(timeout_ms, scope.get("state", {}).get("arrived", math.inf)):
        raise Problem("deadline_exceeded")
