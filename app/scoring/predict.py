"""``/predict`` bodies → answers: read, looked up, scored and calibrated by one model version."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from app.observability.metrics import Telemetry
from app.problems import Problem
from app.scoring.micro_batcher import Outcome, Scorer
from app.scoring.served_model import ServedModel
from models.features.encoder import EncodedBatch
from models.features.request_reader import PredictReading

MAX_NAMES = 16
"""Unknown fields that an answer names."""
NO_IDS: NDArray[np.int64] = np.empty(0, np.int64)


def predict_scorer(served: Callable[[], ServedModel], telemetry: Telemetry) -> Scorer:
    """Return the scorer of ``/predict``; each batch is read and scored by the model that is served when it begins."""
    return Scorer(lambda bodies: PredictScoring(served(), bodies, telemetry), max_requests=64)


class PredictScoring:
    """A batch of ``/predict`` requests, read by one model version.

    Args:
        model: the version.
        bodies: of the requests.
        telemetry: counts rows and what was missing, unseen or unknown.
    """

    def __init__(self, model: ServedModel, bodies: Sequence[bytes], telemetry: Telemetry) -> None:
        self._times = [perf_counter()]
        self._model = model
        self._telemetry = telemetry
        self._readings = [read_or_problem(model.predict_wire.read, body) for body in bodies]
        batches = [reading.batch for reading in self._readings if not isinstance(reading, Problem)]
        self._batch = EncodedBatch.join(batches) if batches else None
        self.source = model.source
        self.ids = NO_IDS if self._batch is None else self._batch.ids
        self._times.append(perf_counter())

    def outcomes(self, rows: NDArray[np.float32]) -> Sequence[Outcome]:
        """Return an answer or a refusal for each body; see `app.scoring.micro_batcher.Scoring`.

        Raises:
            Problem: ``invalid_output``: a probability is not finite.
        """
        probabilities = np.empty(0)
        self._times.append(perf_counter())
        if self._batch is not None:
            probabilities = self._model.artifact.predictor.score(self._batch, rows)
            if not math.isfinite(probabilities.sum()):
                raise Problem("invalid_output")
            self._model.scores.note(probabilities)
            self._telemetry.rows.inc(len(probabilities))
        self._times.append(perf_counter())
        outcomes: list[Outcome] = []
        start = 0
        for reading in self._readings:
            if isinstance(reading, Problem):
                outcomes.append(reading)
                continue
            end = start + len(reading.batch)
            outcomes.append(self._encode(reading, probabilities[start:end]))
            start = end
        self._times.append(perf_counter())
        self._telemetry.note_stages(self._times)
        return outcomes

    def _encode(self, reading: PredictReading, probabilities: NDArray[np.float64]) -> bytes:
        answer = {"predictions": probabilities, "model_version": self._model.artifact.model_version}
        note_values(answer, reading.missing, reading.unseen, reading.unknown_fields, self._telemetry)
        return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def read_or_problem(read: Callable[[bytes], PredictReading], body: bytes) -> PredictReading | Problem:
    """Return what a body holds, or why it is refused."""
    try:
        return read(body)
    except Problem as problem:
        return problem


def note_values(
    answer: dict[str, Any],
    missing: Mapping[str, int],
    unseen: Mapping[str, int],
    unknown_fields: Mapping[str, int],
    telemetry: Telemetry,
) -> None:
    """Count values that were missing, unseen or of unknown fields, and add those counts to the answer where there are any."""
    if missing:
        answer["missing"] = missing
        telemetry.missing_by_field.add(missing)
    if unseen:
        answer["unseen"] = unseen
        telemetry.unseen_by_field.add(unseen)
    if unknown_fields:
        answer["unknown_fields"] = named_unknown(unknown_fields)
        telemetry.unknown_fields.inc(sum(unknown_fields.values()))


def named_unknown(unknown_fields: Mapping[str, int]) -> dict[str, int]:
    """Return the unknown fields that an answer names, the first few of them, and how many rows have each."""
    return dict(sorted(unknown_fields.items())[:MAX_NAMES])
