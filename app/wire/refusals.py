"""Why a body was refused, for its sender: rows, fields and what was expected, never the input itself."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from pydantic import ValidationError

from app.problems import Problem
from models.features.request_reader import Fault

MAX_ERRORS = 16
MAX_FAULTS = 10_000
"""More faults are not listed: Pydantic takes many times as long to list them as to find them."""
MAX_EXPLAINED_BYTES = 1 << 18
"""A larger body is explained by the first fault alone; Pydantic would keep the event loop busy for too long."""
PARTS_WITH_ROWS = {"instances", "inputs", "candidates", "candidate_ids"}


def explain(body: bytes, fault: Fault, validate: Callable[[bytes], object], names: Collection[str]) -> Problem:
    """Return the refusal of a body that the compiled reader has refused.

    Args:
        body: the request's.
        fault: what the reader found.
        validate: checks the body with Pydantic, which finds more faults and says more about them.
        names: of the model's fields.
    """
    if len(body) <= MAX_EXPLAINED_BYTES:
        try:
            validate(body)
        except ValidationError as error:
            return invalid_input(error, names)
    found: dict[str, Any] = {"message": fault.message}
    if fault.row is not None:
        found["row"] = fault.row
    if fault.field is not None:
        found["field"] = fault.field
    return Problem("invalid_input", errors=[found])


def invalid_input(error: ValidationError, names: Collection[str]) -> Problem:
    """Return the refusal for what Pydantic has found; it names rows and the model's own fields."""
    if error.error_count() > MAX_FAULTS:
        return Problem("invalid_input", f"more than {MAX_FAULTS} faults")
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    return Problem("invalid_input", errors=[_describe(f["loc"], f["msg"], names) for f in faults[:MAX_ERRORS]])


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
