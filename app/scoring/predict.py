"""A body → an answer: checked and encoded impressions, scored by one snapshot of the model."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Mapping, Sequence
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from app.http.crowd import SendAnswer
from app.observability.metrics import Telemetry
from app.problems import Problem
from app.scoring.micro_batcher import MAX_BATCH_ROWS, Batcher
from app.scoring.served_model import ServedModel
from models.features.encoder import EncodedBatch
from models.features.request_reader import Reading
from models.network.predictor import pool

MAX_NAMES = 16


def predict_at_once(snapshot: ServedModel, bodies: Sequence[bytes], send: SendAnswer, telemetry: Telemetry) -> None:
    """Do what `predict` does with several bodies, those of few rows together; send places and answers.

    Bodies that need more than compiled reading are left out, and those that would have to wait for rows or fail.

    Raises:
        Problem: ``invalid_output``, of one of those that are left.
    """
    for group in _read_groups(snapshot, bodies):
        rows = snapshot.source.fetch_now(group.batch.ids)
        if rows is not None:
            _score(snapshot, group, rows, send, telemetry)


async def predict_soon(snapshot: ServedModel, bodies: Sequence[bytes], send: SendAnswer, telemetry: Telemetry) -> None:
    """Do what `predict_at_once` does, but wait for rows.

    Raises:
        Problem: ``invalid_output``, of one of those that are left.
    """

    async def answer(group: _Group) -> None:
        _score(snapshot, group, await snapshot.source.fetch(group.batch.ids), send, telemetry)

    groups = list(_read_groups(snapshot, bodies))
    if len(groups) == 1:  # as most often: no further task
        await answer(groups[0])
        return
    found = await asyncio.gather(*map(answer, groups), return_exceptions=True)
    for fault in filter(None, found):
        raise fault


class _Read(NamedTuple):
    """A body that was read."""

    place: int
    reading: Reading
    num_rows: int
    seconds: float


class _Group:
    """Bodies whose rows are looked up and scored together."""

    def __init__(self, reads: list[_Read]) -> None:
        self.began = perf_counter()
        self.reads = reads
        self.batch = EncodedBatch.join([read.reading.batch for read in reads])


def _read_groups(snapshot: ServedModel, bodies: Sequence[bytes]) -> Iterator[_Group]:
    """Yield the bodies that compiled reading can read, as many together as make a batch, the next after what is yielded."""
    reads: list[_Read] = []
    num_rows = 0
    for place, body in enumerate(bodies):
        began = perf_counter()
        reading = snapshot.reader.read(body)
        if reading is None:
            continue
        n = len(reading.batch)
        if num_rows and num_rows + n > MAX_BATCH_ROWS:
            yield _Group(reads)
            reads, num_rows = [], 0
        reads.append(_Read(place, reading, n, perf_counter() - began))
        num_rows += n
    if reads:
        yield _Group(reads)


def _score(
    snapshot: ServedModel, group: _Group, rows: NDArray[np.float32], send: SendAnswer, telemetry: Telemetry
) -> None:
    fetched = perf_counter()
    probabilities = snapshot.artifact.predictor.score(pool(group.batch, rows))
    scored = perf_counter()
    _count(snapshot, probabilities, telemetry)
    end = 0
    for place, reading, num_rows, seconds in group.reads:
        start, end = end, end + num_rows
        times = [group.began - seconds, group.began, fetched, scored]
        send(place, _encode(snapshot, reading, {}, probabilities[start:end], times, telemetry))


async def predict(snapshot: ServedModel, body: bytes, batcher: Batcher, telemetry: Telemetry) -> bytes:
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
    times.append(perf_counter())
    _count(snapshot, probabilities, telemetry)
    return _encode(snapshot, reading, unknown_fields, probabilities, times, telemetry)


def _count(snapshot: ServedModel, probabilities: NDArray[np.float64], telemetry: Telemetry) -> None:
    # numpy takes a microsecond to add up a single number.
    if not math.isfinite(probabilities.item() if len(probabilities) == 1 else np.add.reduce(probabilities)):
        raise Problem("invalid_output")
    snapshot.scores.note(probabilities)
    telemetry.rows.inc(len(probabilities))


def _encode(
    snapshot: ServedModel,
    reading: Reading,
    unknown_fields: Mapping[str, int],
    probabilities: NDArray[np.float64],
    times: list[float],
    telemetry: Telemetry,
) -> bytes:
    answer: dict[str, Any] = {"predictions": probabilities, "model_version": snapshot.artifact.model_version}
    _note(answer, reading, unknown_fields, telemetry)
    encoded = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    times.append(perf_counter())
    telemetry.note_stages(times)
    return encoded


def read(snapshot: ServedModel, body: bytes) -> tuple[Reading, Mapping[str, int]]:
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
    missing, unseen = encoder.name_special(batch)
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
