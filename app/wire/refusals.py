"""Why a body was refused, for its sender: rows, fields and what was expected, never the input itself."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NoReturn

from pydantic import TypeAdapter, ValidationError

from app.problems import Problem
from models.features.request_reader import Fault

MAX_ERRORS = 16
MAX_FAULTS = 10_000
"""More faults are not listed: Pydantic takes many times as long to list them as to find them."""
MAX_EXPLAINED_BYTES = 1 << 18
"""A larger body is explained by the first fault alone; Pydantic would keep the event loop busy for too long."""
PARTS_WITH_ROWS = {"instances", "inputs", "candidates", "candidate_ids"}


def refuse(body: bytes, fault: Fault, request_type: TypeAdapter[dict[str, Any]], names: Collection[str]) -> NoReturn:
    """Refuse a body that the compiled reader has refused.

    Args:
        body: the request's.
        fault: what the reader found.
        request_type: finds more faults, and says more about them.
        names: of the model's fields.

    Raises:
        Problem: ``invalid_input``.
    """
    if len(body) <= MAX_EXPLAINED_BYTES:
        validated(request_type, body, names)
    found = {name: part for name, part in fault._asdict().items() if part is not None}
    raise Problem("invalid_input", errors=[found])


def validated(request_type: TypeAdapter[dict[str, Any]], body: bytes, names: Collection[str]) -> dict[str, Any]:
    """Return a body that Pydantic accepts.

    Raises:
        Problem: ``invalid_input``; it names rows and the model's own fields.
    """
    try:
        return request_type.validate_json(body)
    except ValidationError as error:
        if error.error_count() > MAX_FAULTS:
            raise Problem("invalid_input", f"more than {MAX_FAULTS} faults") from None
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        found = [_describe(f["loc"], f["msg"], names) for f in faults[:MAX_ERRORS]]
        raise Problem("invalid_input", errors=found) from None


def _describe(loc: tuple[int | str, ...], message: str, names: Collection[str]) -> dict[str, Any]:
    fault: dict[str, Any] = {"message": message}
    if not loc:
        return fault
    row = next((part for part in loc[1:] if isinstance(part, int)), None)
    field = next((part for part in loc[1:] if part in names), None)
    if row is not None and loc[0] in PARTS_WITH_ROWS:
        fault["row"] = row
    if field is not None:
        fault["field"] = field
    elif loc[0] in PARTS_WITH_ROWS or loc[0] in ("context", "top_k"):
        fault["field"] = loc[0]
    return fault
