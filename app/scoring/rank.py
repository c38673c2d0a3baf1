"""``/rank`` bodies → answers: one context's activations once, the candidates' computed or from the catalog, added."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from app.observability.metrics import Telemetry
from app.problems import Problem
from app.scoring.micro_batcher import Outcome, Scorer
from app.scoring.predict import note_values
from app.scoring.served_model import ServedModel
from models.features.encoder import EncodedBatch
from models.network.head import SideActivations
from models.network.side_activations import SideScorer


def rank_scorer(served: Callable[[], ServedModel], telemetry: Telemetry) -> Scorer:
    """Return the scorer of ``/rank``; each batch is read and scored by the model that is served when it begins."""
    return Scorer(lambda bodies: RankScoring(served(), bodies, telemetry), max_requests=1)


class RankScoring:
    """One ``/rank`` request, read by one model version; its candidates fill a batch.

    Args:
        model: the version.
        bodies: of the request, the only one.
        telemetry: counts candidates and what was missing, unseen or unknown.

    Raises:
        Problem: ``invalid_input``, ``not_rankable`` or ``no_catalog``.
    """

    def __init__(self, model: ServedModel, bodies: Sequence[bytes], telemetry: Telemetry) -> None:
        (body,) = bodies
        self._model = model
        self._telemetry = telemetry
        self._reading = reading = model.rank_wire.read(body)
        self._known = None if reading.candidate_ids is None else model.ranker.known()
        parts = [batch.ids for batch in (reading.context, reading.candidates) if batch is not None]
        self.source = model.source
        self.ids: NDArray[np.int64] = np.concatenate(parts) if parts else np.empty(0, np.int64)

    def outcomes(self, rows: NDArray[np.float32]) -> Sequence[Outcome]:
        """Return the answer: places of the candidates in the request, best first, with their probabilities.

        Raises:
            Problem: ``invalid_output``: a probability is not finite.
        """
        reading, ranker = self._reading, self._model.ranker
        num_context = 0 if reading.context is None else len(reading.context.ids)
        context = _activations(ranker.context, reading.context, rows[:num_context])
        answer: dict[str, Any] = {}
        if self._known is None:
            candidates = _activations(ranker.candidate, reading.candidates, rows[num_context:])
            at: NDArray[np.int64] = np.arange(len(candidates.squares))
            places = at
        else:
            assert reading.candidate_ids is not None  # the wire lets one of the two through
            candidates, at = self._known.activations, self._known.find(reading.candidate_ids)
            places = (at >= 0).nonzero()[0]
            if len(places) < len(at):
                answer["not_in_catalog"] = (at < 0).nonzero()[0]
                at = at[places]
        predictor = self._model.artifact.predictor
        logits = predictor.head.rank(context, candidates, at) if len(at) else np.empty(0, np.float32)
        probabilities = predictor.probabilities(logits)
        if not math.isfinite(probabilities.sum()):
            raise Problem("invalid_output")
        best = np.argsort(-probabilities, kind="stable")[: reading.top_k]
        answer |= {
            "indices": places.take(best),
            "probabilities": probabilities.take(best),
            "model_version": self._model.artifact.model_version,
        }
        self._telemetry.rows.inc(len(places))
        note_values(answer, reading.missing, reading.unseen, reading.unknown_fields, self._telemetry)
        return [orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)]


def _activations(scorer: SideScorer, batch: EncodedBatch | None, rows: NDArray[np.float32]) -> SideActivations:
    return scorer.nothing() if batch is None else scorer.activations(batch, rows)
