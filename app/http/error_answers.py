"""Every answer that is not a success, in one shape: RFC 9457 problem details with ``code``. Never echoes the input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.problems import Code, Problem

MEDIA_TYPE = "application/problem+json"
PROTOCOL_PATHS = "/v2/"
"""Paths of the Open Inference Protocol."""

PROBLEMS: Mapping[Code, tuple[int, str]] = {
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
    "unknown_version": (404, "There is no such version"),
    "current_not_kept": (507, "artifacts/current could not be written, and the model before goes on"),
    "artifact_refused": (409, "The artifact that is named must not be served"),
    "invalid_output": (500, "The model gave a number that is no probability"),
    "internal_error": (500, "The service failed"),
}
"""Status and title of each code."""


class Answer(NamedTuple):
    """An HTTP answer that is whole."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def answer_of(problem: Problem, request_id: str | None, *, has_error: bool = False) -> Answer:
    """Return the problem details of a refusal.

    Args:
        problem: the refusal.
        request_id: where the request has one.
        has_error: say in ``error`` what is wrong, as the Open Inference Protocol wants it.
    """
    status, title = PROBLEMS[problem.code]
    details: dict[str, Any] = {"type": "about:blank", "title": title, "status": status, "code": problem.code}
    if problem.detail is not None:
        details["detail"] = problem.detail
    if problem.errors:
        details["errors"] = problem.errors
    if request_id is not None:
        details["request_id"] = request_id
    if has_error:
        details["error"] = problem.detail or "; ".join(error["message"] for error in problem.errors) or title
    body = orjson.dumps(details)
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", b"%d" % len(body))]
    if problem.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % problem.retry_after_s))
    if problem.code == "unauthorized":
        headers.append((b"www-authenticate", b'Bearer, Basic realm="ctrserve"'))
    return Answer(status, headers, body)


def _response(request: Request, problem: Problem, allow: str | None = None) -> Response:
    status, headers, body = answer_of(
        problem,
        request.scope.get("state", {}).get("request_id"),
        has_error=request.scope["path"].startswith(PROTOCOL_PATHS),
    )
    response = Response(body, status)
    response.raw_headers = headers if allow is None else [*headers, (b"allow", allow.encode())]
    return response


async def answer_problem(request: Request, error: Exception) -> Response:
    """Answer a `Problem` that a route raised."""
    assert isinstance(error, Problem)
    return _response(request, error)


async def answer_http_error(request: Request, error: Exception) -> Response:
    """Answer an unknown path, or a known path with another method, which keeps the ``Allow`` header."""
    assert isinstance(error, HTTPException)
    code: Code = "not_found" if error.status_code == 404 else "method_not_allowed"
    return _response(request, Problem(code), (error.headers or {}).get("Allow"))


async def answer_internal_error(request: Request, error: Exception) -> Response:
    """Answer a defect; its cause goes to the log alone."""
    return _response(request, Problem("internal_error"))
