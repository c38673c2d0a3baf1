"""Why a request cannot be answered, in the service's own terms; `app.http.error_answers` turns it into an HTTP answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

Code = Literal[
    "invalid_input",
    "body_too_large",
    "unsupported_media_type",
    "incomplete_body",
    "unauthorized",
    "forbidden",
    "quota_exceeded",
    "not_found",
    "method_not_allowed",
    "no_model",
    "overloaded",
    "deadline_exceeded",
    "draining",
    "not_rankable",
    "no_catalog",
    "catalog_not_kept",
    "no_previous",
    "unknown_version",
    "current_not_kept",
    "artifact_refused",
    "invalid_output",
    "internal_error",
]
"""Promised to clients and listed in docs/operations.md."""


class Problem(Exception):
    """Ends a request with a refusal.

    Args:
        code: what kind of refusal.
        detail: one sentence for the caller; must not hold anything the caller sent.
        errors: single faults, each with ``message`` and, where known, ``row`` and ``field``.
        retry_after_s: seconds after which the same request may be answered.
    """

    def __init__(
        self,
        code: Code,
        detail: str | None = None,
        errors: Sequence[Mapping[str, Any]] = (),
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(code)
        self.code: Code = code
        self.detail = detail
        self.errors = errors
        self.retry_after_s = retry_after_s
