"""A ``/rank`` body → an answer: activations of the context once, of the candidates from the catalog or computed, added."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from app.observability.metrics import Telemetry
from app.problems import Problem
from app.scoring.catalog import Catalog
from app.scoring.predict import MAX_NAMES
from app.scoring.served_model import ServedModel
from models.features.field_encoder import Value
from models.network.head import SideActivations
from models.network.side_activations import SideScorer


async def rank(snapshot: ServedModel, catalog: Catalog | None, body: bytes, telemetry: Telemetry) -> bytes:
    """Answer ``POST /rank``: places of the candidates in the request, best first, with their probabilities.

    Raises:
        Problem: ``invalid_input``, ``no_catalog``, ``not_rankable``; ``invalid_output``.
    """
    ranker, artifact = snapshot.ranker, snapshot.artifact
    request = ranker.wire.parse(body)
    answer: dict[str, Any] = {}
    context = await _activations(snapshot, ranker.context, request.context)
    if request.candidates is not None:
        candidates = await _activations(snapshot, ranker.candidate, request.candidates)
        at: NDArray[np.int64] = np.arange(len(candidates.squares))
        places = at
    else:
        assert request.candidate_ids is not None  # the wire lets one of the two through
        known = ranker.prepare(catalog)
        candidates, at = known.activations, known.find(request.candidate_ids)
        places = (at >= 0).nonzero()[0]
        if len(places) < len(at):
            answer["not_in_catalog"] = (at < 0).nonzero()[0]
            at = at[places]
    indices, probabilities = _best(snapshot, context, candidates, at, request.top_k)
    telemetry.rows.inc(len(places))
    answer = {
        "indices": places.take(indices),
        "probabilities": probabilities,
        "model_version": artifact.model_version,
        **answer,
    }
    if request.unknown_fields:
        telemetry.unknown_fields.inc(sum(request.unknown_fields.values()))
        answer["unknown_fields"] = dict(sorted(request.unknown_fields.items())[:MAX_NAMES])
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


async def _activations(
    snapshot: ServedModel, scorer: SideScorer, columns: Sequence[Sequence[Value]]
) -> SideActivations:
    if not columns:
        return scorer.nothing()
    batch = scorer.encoder.encode(columns)
    rows = snapshot.source.fetch_now(batch.ids)
    if rows is None:
        rows = await snapshot.source.fetch(batch.ids)
    return scorer.activations(batch, rows)


def _best(
    snapshot: ServedModel,
    context: SideActivations,
    candidates: SideActivations,
    at: NDArray[np.int64],
    top_k: int | None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    if not len(at):
        return np.empty(0, np.int64), np.empty(0, np.float64)
    predictor = snapshot.artifact.predictor
    probabilities = predictor.probabilities(predictor.head.rank(context, candidates, at))
    if not math.isfinite(probabilities.sum()):
        raise Problem("invalid_output")
    order = np.argsort(-probabilities, kind="stable")[:top_k]
    return order, probabilities.take(order)
