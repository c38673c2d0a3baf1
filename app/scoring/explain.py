"""``/explain`` bodies → answers: why each probability is what it is, computed beside the requests that are scored."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from time import perf_counter

import orjson

from app.low_priority import run_low_priority
from app.problems import Problem
from app.scoring.predict import named_unknown
from app.scoring.served_model import ServedModel
from models.features.request_reader import PredictReading

MAX_ROWS = 100
"""Rows of one request: one of a wide model takes tens of milliseconds."""
MAX_WAITING = 16
"""Requests that wait or are being explained, in each process; they take no room from those that are scored."""


class ExplainQueue:
    """Explains one request at a time, in a thread that gives way to scoring.

    Args:
        served: the model that is served.
    """

    def __init__(self, served: Callable[[], ServedModel]) -> None:
        self._served = served
        self._lock = asyncio.Lock()

    async def answer(self, body: bytes, deadline: float) -> bytes:
        """Return the answer to a request, read as ``/predict`` reads it.

        Args:
            body: of the request.
            deadline: by `time.perf_counter`; the rows that remain then are not explained, and there is no answer.

        Raises:
            Problem: ``invalid_input``, ``deadline_exceeded``, ``no_model``.
        """
        model = self._served()
        reading = model.predict_wire.read(body)
        if len(reading.batch) > MAX_ROWS:
            raise Problem("invalid_input", f"at most {MAX_ROWS} rows are explained at once")
        async with self._lock:
            return await run_low_priority(_explain, model, reading, deadline)


def _explain(model: ServedModel, reading: PredictReading, deadline: float) -> bytes:
    explanations, iterator = [], model.explainer.explain(reading.batch)
    while True:
        if perf_counter() > deadline:
            raise Problem("deadline_exceeded")
        explanation = next(iterator, None)
        if explanation is None:
            break
        if not math.isfinite(explanation["logit"]):
            raise Problem("invalid_output")
        explanations.append(explanation)
    answer = model.explainer.header() | {"explanations": explanations}
    if reading.unknown_fields:
        answer["unknown_fields"] = named_unknown(reading.unknown_fields)
    return orjson.dumps(answer)
