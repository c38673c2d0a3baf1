"""The ASGI app: scored requests by one endpoint, all others by FastAPI; each is traced, counted, timed and logged.

A scored request goes key → body → admission → deadline → answer, with no framework in between.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from time import perf_counter
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.admission import Admission, Uploads
from app.http.api_keys import KeyFile
from app.http.error_answers import Answer, answer_of
from app.http.request_body import read_json_body
from app.observability.logs import RequestLog
from app.observability.metrics import Telemetry
from app.observability.tracing import begin_trace
from app.problems import Problem

if TYPE_CHECKING:  # of an extra
    from opentelemetry.trace import Span

    from app.observability.spans import Spans

log = logging.getLogger("ctrserve")

CLOSE = (b"connection", b"close")
CONTENT_TYPE = (b"content-type", b"application/json")
Score = Callable[[bytes, float], Awaitable[bytes]]
"""Takes a body and a deadline by `time.perf_counter`; returns a JSON answer or raises `Problem`."""
Answering = Callable[["ScoredRequest", Receive], Awaitable[bytes]]
"""`Endpoint.answer` with the scoring of one path."""


class Endpoint:
    """The way of a scored request, from its headers to its answer.

    Args:
        keys: who may call it, with the scope ``predict``; ``None``: everybody may.
        admission: bounds the work that waits.
        uploads: bounds the bodies that have come in part.
        max_body_bytes: longer bodies are refused.
        telemetry: counts deadlines that have passed.
    """

    def __init__(
        self, keys: KeyFile | None, admission: Admission, uploads: Uploads, max_body_bytes: int, telemetry: Telemetry
    ) -> None:
        self._keys = keys
        self._admission = admission
        self._uploads = uploads
        self._max_body_bytes = max_body_bytes
        self._count_late = telemetry.shed.labels("deadline").inc

    async def answer(self, request: ScoredRequest, receive: Receive, score: Score) -> bytes:
        """Return the answer to a request.

        Raises:
            Problem: it is refused.
        """
        if self._keys is not None:
            key = self._keys.identify(request.headers)
            request.key = key.name
            self._keys.admit(key, "predict")
        if request.method != "POST":
            raise Problem("method_not_allowed")
        deadline = _deadline(request)
        self._admission.check()  # while there is no room, bodies are not even waited for
        body = await read_json_body(request.headers, receive, self._max_body_bytes, self._uploads)
        num_bytes = len(body)
        self._admission.enter(num_bytes)
        try:
            return await score(body, deadline)
        except Problem as problem:
            if problem.code == "deadline_exceeded":
                self._count_late()
            raise
        finally:
            self._admission.leave(num_bytes)


class Application:
    """The whole service as an ASGI app.

    Args:
        framework: the FastAPI app, which answers all other paths.
        scored: answers the requests of each path that is scored.
        telemetry: counts and times requests by path and status.
        spans: traces requests, where that is wanted.
    """

    def __init__(
        self,
        framework: ASGIApp,
        scored: Mapping[str, Answering],
        telemetry: Telemetry,
        spans: Spans | None = None,
    ) -> None:
        self.is_draining = False
        self._spans = spans
        self._framework = framework
        self._scored = scored
        # To find a labelled metric takes several times as long as to count.
        self._count = cache(lambda path, status: telemetry.requests.labels(path, str(status)).inc)
        self._time = cache(lambda path: telemetry.request_seconds.labels(path).observe)
        self._log = RequestLog()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or follow the server's start and end."""
        if scope["type"] != "http":
            await self._framework(scope, receive, send)
            return
        request = ScoredRequest(scope)
        if self._spans is not None:
            request.span, request.traceparent = self._spans.begin(request.headers)
        answering = self._scored.get(request.path)
        if answering is None:
            await self._answer_by_framework(request, scope, receive, send)
            return
        try:
            body = await answering(request, receive)
            answer, code = Answer(200, [CONTENT_TYPE, (b"content-length", b"%d" % len(body))], body), None
        except Problem as problem:  # kept no longer than this block: it holds this frame, which would hold it
            answer, code = answer_of(problem, request.id), problem.code
        except Exception:  # a defect is answered, and the other requests go on
            log.exception("a defect on the path %s", request.path, extra={"request_id": request.id})
            answer, code = answer_of(Problem("internal_error"), request.id), "internal_error"
        if code == "method_not_allowed":
            answer.headers.append((b"allow", b"POST"))
        await self._send(answer, request, send)
        self._note(request, request.path, answer.status, code)

    async def _send(self, answer: Answer, request: ScoredRequest, send: Send) -> None:
        answer.headers.append((b"traceparent", request.traceparent))
        if self.is_draining:
            answer.headers.append(CLOSE)
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer_by_framework(self, request: ScoredRequest, scope: Scope, receive: Receive, send: Send) -> None:
        status = 500

        async def send_traced(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"traceparent", request.traceparent)]
                if self.is_draining:
                    message["headers"].append(CLOSE)
            await send(message)

        state = scope.setdefault("state", {})
        state["request_id"] = request.id
        try:
            await self._framework(scope, receive, send_traced)
        except Exception:  # FastAPI has answered it, and raises it once more to be logged
            log.exception("a defect on the path %s", request.path, extra={"request_id": request.id})
        route = scope.get("route")
        request.key = state.get("key")
        self._note(request, "other" if route is None else route.path, status, None)

    def _note(self, request: ScoredRequest, label: str, status: int, code: str | None) -> None:
        seconds = perf_counter() - request.started
        self._time(label)(seconds)
        self._count(label, status)()
        if self._spans is not None and request.span is not None:
            self._spans.end(request.span, request.method, label, status, code)
        if status >= 400:
            self._log.note(label, status, code, request.id, request.key, seconds)


class ScoredRequest:
    """What is known of a request apart from its body."""

    __slots__ = ("headers", "key", "method", "path", "span", "started", "traceparent")

    def __init__(self, scope: Scope) -> None:
        self.started = perf_counter()
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.key: str | None = None
        self.span: Span | None = None
        self.traceparent = begin_trace(self.headers.get(b"traceparent"))

    @property
    def id(self) -> str:
        """The trace id."""
        return self.traceparent[3:35].decode()


def _deadline(request: ScoredRequest) -> float:
    """Return the time by `time.perf_counter` after which an answer is of no use: ``X-Request-Timeout-Ms`` from the start."""
    given = request.headers.get(b"x-request-timeout-ms")
    if given is None:
        return math.inf
    try:
        timeout_ms = float(given)
    except ValueError:
        timeout_ms = math.nan
    if math.isnan(timeout_ms):
        raise Problem("invalid_input", "X-Request-Timeout-Ms is no number of milliseconds")
    return request.started + timeout_ms / 1000
