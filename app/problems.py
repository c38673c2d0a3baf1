"""Every answer that is not a success, in one shape: RFC 9457 problem details with ``code``. Never echoes the input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from app.observability.tracing import request_id_of

MEDIA_TYPE = "application/problem+json"

# code → (status, title); the codes are promised to clients and listed in docs/operations.md.
PROBLEMS: Mapping[str, tuple[int, str]] = {
    "invalid_input": (422, "The request does not fit the model's schema"),
    "body_too_large": (413, "The request body is too large"),
    "unsupported_media_type": (415, "The request body must be application/json, not compressed"),
    "incomplete_body": (400, "The request body ended early"),
    "unauthorized": (401, "The path asks for an API key"),
    "forbidden": (403, "The request is not allowed"),
    "quota_exceeded": (429, "The API key has used up its requests for now"),
    "not_found": (404, "No such path"),
    "method_not_allowed": (405, "The path does not allow this method"),
    "no_model": (503, "No model is loaded yet"),
    "overloaded": (503, "The service has more work waiting than it will take on"),
    "deadline_exceeded": (504, "The request's own deadline passed before its turn came"),
    "draining": (503, "The service is about to stop"),
    "not_rankable": (422, "The model has no candidate fields, so there is nothing to rank"),
    "no_catalog": (409, "There is no catalog to take candidates from"),
    "catalog_not_kept": (507, "The catalog could not be written, and the one before goes on"),
    "no_previous": (409, "There is no model to go back to"),
    "artifact_refused": (409, "The artifact that is named must not be served"),
    "invalid_output": (500, "The model gave a number that is no probability"),
    "internal_error": (500, "The service failed"),
}


class Problem(Exception):
    """Ends a request with a problem answer.

    Args:
        code: a key of `PROBLEMS`.
        detail: one sentence for the caller; must not hold anything the caller sent.
        errors: single faults, each with ``message`` and, where known, ``row`` and ``field``.
        headers: added to the answer.
    """

    def __init__(
        self,
        code: str,
        detail: str | None = None,
        errors: Sequence[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail
        self.errors = errors
        self.headers = headers

    def response(self, request_id: str | None = None) -> Response:
        """Return the answer, with the request's id where it has one."""
        status, title = PROBLEMS[self.code]
        body: dict[str, Any] = {"type": "about:blank", "title": title, "status": status, "code": self.code}
        if self.detail is not None:
            body["detail"] = self.detail
        if self.errors:
            body["errors"] = self.errors
        if request_id is not None:
            body["request_id"] = request_id
        return Response(orjson.dumps(body), status, self.headers, MEDIA_TYPE)


async def answer_problem(request: Request, error: Exception) -> Response:
    """Turn a `Problem` into its answer, as an exception handler."""
    assert isinstance(error, Problem)
    return error.response(request_id_of(request.scope))


async def answer_not_found(request: Request, error: Exception) -> Response:
    """Answer an unknown path."""
    return Problem("not_found").response(request_id_of(request.scope))


async def answer_method_not_allowed(request: Request, error: Exception) -> Response:
    """Answer a known path with another method; keeps the ``Allow`` header."""
    return Problem("method_not_allowed", headers=getattr(error, "headers", None)).response(request_id_of(request.scope))


async def answer_internal_error(request: Request, error: Exception) -> Response:
    """Answer what nobody foresaw; the cause goes to the log alone."""
    return Problem("internal_error").response(request_id_of(request.scope))
