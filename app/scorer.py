"""A body → an answer: checked and encoded impressions, scored by one snapshot of the model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from time import perf_counter
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from app.batcher import Batcher
from app.errors import Problem
from app.registry import Snapshot
from app.telemetry import Telemetry
from models.predictor import pool
from models.row_reader import Reading

MAX_NAMES = 16


def predict_at_once(snapshot: Snapshot, body: bytes, telemetry: Telemetry) -> bytes | None:
    """Do what `predict` does, or return ``None`` where it might have to wait or needs more than compiled reading.

    Raises:
        Problem: ``invalid_output``.
    """
    if snapshot.source.may_wait:  # not after reading, which would be done twice
        return None
    times = [perf_counter()]
    reading = snapshot.reader.read(body)
    if reading is None:
        return None
    times.append(perf_counter())
    rows = snapshot.source.fetch_now(reading.batch.ids)
    if rows is None:
        return None
    times.append(perf_counter())
    probabilities = snapshot.artifact.predictor.score(pool(reading.batch, rows))
    return _encode(snapshot, reading, {}, probabilities, times, telemetry)


async def predict(snapshot: Snapshot, body: bytes, batcher: Batcher, telemetry: Telemetry) -> bytes:
    """Answer ``POST /predict``; waits for Redis where rows have to come from there, and for others to score with.

    Raises:
        Problem: ``invalid_input``; ``invalid_output`` when a probability is not finite.
    """
    times = [perf_counter()]
    reading, unknown_fields = read(snapshot, body)
    batch = reading.batch
    times.append(perf_counter())
    rows = snapshot.source.fetch_now(batch.ids)
    if rows is None:
        rows = await snapshot.source.fetch(batch.ids)
    times.append(perf_counter())
    probabilities = await batcher.probabilities(snapshot.artifact.predictor, pool(batch, rows))
    return _encode(snapshot, reading, unknown_fields, probabilities, times, telemetry)


def _encode(
    snapshot: Snapshot,
    reading: Reading,
    unknown_fields: Mapping[str, int],
    probabilities: NDArray[np.float64],
    times: list[float],
    telemetry: Telemetry,
) -> bytes:
    times.append(perf_counter())
    if not math.isfinite(np.add.reduce(probabilities)):
        raise Problem("invalid_output")
    snapshot.scores.note(probabilities)
    telemetry.rows.inc(len(probabilities))
    answer: dict[str, Any] = {"predictions": probabilities, "model_version": snapshot.artifact.model_version}
    _note(answer, reading, unknown_fields, telemetry)
    encoded = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    times.append(perf_counter())
    telemetry.note_stages(times)
    return encoded


def read(snapshot: Snapshot, body: bytes) -> tuple[Reading, Mapping[str, int]]:
    """Return a body's impressions, encoded, and the rows that carry each field that the model has not.

    Raises:
        Problem: ``invalid_input``.
    """
    reading = snapshot.reader.read(body)
    if reading is not None:
        return reading, {}
    columns = snapshot.wire.parse(body)
    encoder = snapshot.artifact.encoder
    batch = encoder.encode(columns.values)
    names = [field.spec.name for field in encoder.fields]
    missing, unseen = ({names[i]: n for i, n in sorted(counts.items())} for counts in encoder.count_special(batch))
    return Reading(batch, missing, unseen), columns.unknown_fields


def _note(answer: dict[str, Any], reading: Reading, unknown_fields: Mapping[str, int], telemetry: Telemetry) -> None:
    """Count what was unknown, missing or unseen, and put it into the answer; what was not stays out of it."""
    if unknown_fields:
        telemetry.unknown_fields.inc(sum(unknown_fields.values()))
        answer["unknown_fields"] = dict(sorted(unknown_fields.items())[:MAX_NAMES])
    if reading.missing:
        answer["missing"] = reading.missing
        for field, count in reading.missing.items():
            telemetry.count_missing[field](count)
    if reading.unseen:
        answer["unseen"] = reading.unseen
        for field, count in reading.unseen.items():
            telemetry.count_unseen[field](count)
