"""The way of a scored request: bytes of the socket → handler → bytes of the answer, with no framework in between.

Everything else, wrong methods on these paths too, goes on to the FastAPI app.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import Problem
from app.telemetry import Telemetry

log = logging.getLogger("ctrserve")

Handler = Callable[[bytes], Awaitable[bytes]]

JSON_TYPES = {b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8"}
CONTENT_TYPE = (b"content-type", b"application/json")
CLOSE = (b"connection", b"close")


class HotPath:
    """The whole service as an ASGI app: answers ``POST`` on some paths itself, counts and times every request.

    Args:
        app: what answers all else.
        handlers: by path; each takes a body and returns a JSON answer, or raises `Problem`.
        paths: other paths that have a label of their own in the metrics; the rest share ``other``.
        max_body_bytes: longer bodies are refused, unread where their length is announced.
        telemetry: counts requests by path and status.
    """

    def __init__(
        self,
        app: ASGIApp,
        handlers: Mapping[str, Handler],
        paths: tuple[str, ...],
        max_body_bytes: int,
        telemetry: Telemetry,
    ) -> None:
        self.is_draining = False
        self._app = app
        self._handlers = handlers
        self._max_body_bytes = max_body_bytes
        self._requests = telemetry.requests
        self._count_late = telemetry.shed.labels("deadline").inc
        labels = (*handlers, *paths, "other")
        self._observe = {path: telemetry.request_seconds.labels(path).observe for path in labels}
        self._count_ok = {path: telemetry.requests.labels(path, "200").inc for path in handlers}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        path = scope["path"]
        handler = self._handlers.get(path) if scope["method"] == "POST" else None
        if handler is None:
            await self._pass_on(scope, receive, send, path if path in self._observe else "other", started)
            return
        try:
            answer = await handler(await read_json_body(scope, receive, self._max_body_bytes))
        except Problem as problem:
            if problem.code == "deadline_exceeded":
                self._count_late()
            response = problem.response()
            await response(scope, receive, send)
            self._observe[path](time.perf_counter() - started)
            self._requests.labels(path, str(response.status_code)).inc()
            return
        except Exception:
            log.exception("a defect on the path %s", path)
            await Problem("internal_error").response()(scope, receive, send)
            self._requests.labels(path, "500").inc()
            return
        headers = [CONTENT_TYPE, (b"content-length", b"%d" % len(answer))]
        if self.is_draining:
            headers.append(CLOSE)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})
        self._observe[path](time.perf_counter() - started)
        self._count_ok[path]()

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send, path: str, started: float) -> None:
        status = 500

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self.is_draining:
                    message["headers"] = [*message["headers"], CLOSE]
            await send(message)

        app = self._app
        if self.is_draining and path == "/health/ready":
            app = Problem("draining").response()
        try:
            await app(scope, receive, note)
        finally:
            self._observe[path](time.perf_counter() - started)
            self._requests.labels(path, str(status)).inc()


async def read_json_body(scope: Scope, receive: Receive, max_bytes: int) -> bytes:
    """Read a request's body up to ``max_bytes``.

    Raises:
        Problem: ``unsupported_media_type``, ``body_too_large``, ``incomplete_body``; ``deadline_exceeded`` when the time that
            the client gives in ``X-Request-Timeout-Ms`` has passed since the request arrived.
    """
    media_type, length, deadline = b"", b"0", None
    for name, value in scope["headers"]:
        if name == b"content-type":
            media_type = value
        elif name == b"content-length":
            length = value
        elif name == b"content-encoding":
            raise Problem("unsupported_media_type")
        elif name == b"x-request-timeout-ms":
            deadline = value
    if media_type not in JSON_TYPES and media_type.lower().replace(b'"', b"") not in JSON_TYPES:
        raise Problem("unsupported_media_type")
    if int(length) > max_bytes:
        raise Problem("body_too_large", f"at most {max_bytes} bytes")
    if deadline is not None:
        _check_deadline(deadline, scope)
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


def _check_deadline(deadline_ms: bytes, scope: Scope) -> None:
    try:
        seconds = float(deadline_ms) / 1000
    except ValueError:
        seconds = math.nan
    if math.isnan(seconds):
        raise Problem("invalid_input", "X-Request-Timeout-Ms is no number of milliseconds")
    arrived = scope.get("state", {}).get("arrived", math.inf)
    if not time.perf_counter() - arrived <= seconds:
        raise Problem("deadline_exceeded")
