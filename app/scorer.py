"""A body → an answer: checked columns, encoded, scored by one snapshot of the model."""

from __future__ import annotations

import math
from time import perf_counter
from typing import Any

import numpy as np
import orjson

from app.batcher import Batcher
from app.errors import Problem
from app.registry import Snapshot
from app.telemetry import Telemetry
from app.wire import Columns
from models.encoding import EncodedBatch
from models.predictor import pool

MAX_NAMES = 16


async def predict(snapshot: Snapshot, body: bytes, batcher: Batcher, telemetry: Telemetry) -> bytes:
    """Answer ``POST /predict``; waits for Redis where rows have to come from there, and for others to score with.

    Raises:
        Problem: ``invalid_input``; ``invalid_output`` when a probability is not finite.
    """
    times = [perf_counter()]
    columns = snapshot.wire.parse(body)
    times.append(perf_counter())
    artifact = snapshot.artifact
    batch = artifact.encoder.encode(columns.values)
    times.append(perf_counter())
    rows = snapshot.source.fetch_now(batch.ids)
    if rows is None:
        rows = await snapshot.source.fetch(batch.ids)
    times.append(perf_counter())
    probabilities = await batcher.probabilities(artifact.predictor, pool(batch, rows))
    times.append(perf_counter())
    if not math.isfinite(np.add.reduce(probabilities)):
        raise Problem("invalid_output")
    snapshot.scores.note(probabilities)
    telemetry.rows.inc(columns.num_rows)
    answer: dict[str, Any] = {"predictions": probabilities, "model_version": artifact.model_version}
    answer |= _notes(snapshot, columns, batch, telemetry)
    encoded = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    times.append(perf_counter())
    telemetry.note_stages(times)
    return encoded


def _notes(snapshot: Snapshot, columns: Columns, batch: EncodedBatch, telemetry: Telemetry) -> dict[str, Any]:
    """Count and return what was unknown, missing or unseen; what was not stays out of the answer."""
    notes: dict[str, Any] = {}
    if columns.unknown_fields:
        telemetry.unknown_fields.inc(sum(columns.unknown_fields.values()))
        notes["unknown_fields"] = dict(sorted(columns.unknown_fields.items())[:MAX_NAMES])
    fields = snapshot.artifact.encoder.fields
    missing, unseen = snapshot.artifact.encoder.count_special(batch)
    for name, counts, counter in (("missing", missing, telemetry.missing), ("unseen", unseen, telemetry.unseen)):
        if counts:
            notes[name] = {fields[i].spec.name: count for i, count in sorted(counts.items())}
            for field, count in notes[name].items():
                counter.labels(field).inc(count)
    return notes
