"""The body of a request: JSON, not compressed, within bounds."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import Receive

from app.http.admission import Uploads
from app.problems import Problem

JSON_TYPES = {b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8"}


async def read_json_body(headers: Mapping[bytes, bytes], receive: Receive, max_bytes: int, uploads: Uploads) -> bytes:
    """Read a request's body up to ``max_bytes``; a body that has come already costs one call.

    Args:
        headers: of the request.
        receive: of the ASGI request.
        max_bytes: longer bodies are refused, unread where their length is announced.
        uploads: keeps bodies that come in parts.

    Raises:
        Problem: ``unsupported_media_type``, ``body_too_large``, ``incomplete_body``, ``overloaded``.
    """
    media_type = headers.get(b"content-type", b"")
    if media_type not in JSON_TYPES and media_type.lower().replace(b'"', b"") not in JSON_TYPES:
        raise Problem("unsupported_media_type")
    if b"content-encoding" in headers:
        raise Problem("unsupported_media_type")
    if int(headers.get(b"content-length", b"0")) > max_bytes:
        raise _too_large(max_bytes)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        body: bytes = message.get("body", b"")
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
        return body
    upload = uploads.begin()
    try:
        while message["type"] == "http.request":
            if uploads.add(upload, message.get("body", b"")) > max_bytes:
                raise _too_large(max_bytes)
            if not message.get("more_body", False):
                return uploads.body(upload)
            message = await receive()
        raise Problem("incomplete_body")
    finally:
        uploads.end(upload)


def _too_large(max_bytes: int) -> Problem:
    return Problem("body_too_large", f"at most {max_bytes} bytes")
