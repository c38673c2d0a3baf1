"""Checked columns → probabilities, by one snapshot of the model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.errors import Problem
from app.registry import Snapshot
from app.telemetry import Telemetry
from app.wire import Columns


@dataclass(frozen=True, slots=True)
class Scores:
    """Probabilities float64 [B], and how many values of each field were absent or never seen in training."""

    probabilities: NDArray[np.float64]
    missing: dict[str, int]
    unseen: dict[str, int]


async def score(snapshot: Snapshot, columns: Columns, telemetry: Telemetry) -> Scores:
    """Score one request; waits only where rows have to come from Redis.

    Raises:
        Problem: ``invalid_output`` when a probability is not finite.
    """
    artifact = snapshot.artifact
    batch = artifact.encoder.encode(columns.values)
    rows = snapshot.source.fetch_now(batch.ids)
    if rows is None:
        rows = await snapshot.source.fetch(batch.ids)
    probabilities = artifact.predictor.probabilities(artifact.predictor.logits(batch, rows))
    if not np.isfinite(probabilities).all():
        raise Problem("invalid_output")
    missing, unseen = artifact.encoder.count_special(batch)
    telemetry.rows.inc(columns.num_rows)
    names = [f.spec.name for f in artifact.encoder.fields]
    scores = Scores(probabilities, _nonzero(names, missing), _nonzero(names, unseen))
    for name, count in scores.missing.items():
        telemetry.missing.labels(name).inc(count)
    for name, count in scores.unseen.items():
        telemetry.unseen.labels(name).inc(count)
    if columns.unknown_fields:
        telemetry.unknown_fields.inc(sum(columns.unknown_fields.values()))
    return scores


def _nonzero(names: list[str], counts: NDArray[np.int64]) -> dict[str, int]:
    return {names[i]: int(counts[i]) for i in np.flatnonzero(counts)}
