"""One model version as it is served."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from app.embeddings.source import EmbeddingSource
from app.low_priority import yield_cpu
from app.observability.metrics import Telemetry
from app.scoring.ranker import Ranker
from app.scoring.score_drift import ScoreMonitor
from app.wire.predict_request import PredictWire
from app.wire.rank_request import RankWire
from models.artifact.artifact import Artifact
from models.artifact.golden import columns_of
from models.explanation.explainer import Explainer

NUM_WARM_UP = 20
EXPLAIN_SLEEP_FACTOR = 3.0
"""Seconds of sleep for each second of explaining: a quarter of a core at most."""


@dataclass(frozen=True)
class ServedModel:
    """All that belongs to one model version. A request takes it once and uses it to its end."""

    artifact: Artifact
    source: EmbeddingSource
    predict_wire: PredictWire
    rank_wire: RankWire
    ranker: Ranker
    scores: ScoreMonitor

    @property
    def version(self) -> str:
        """The ``model_version`` of the artifact."""
        return self.artifact.model_version

    @cached_property
    def explainer(self) -> Explainer:
        """What ``/explain`` needs, made when it is first asked for: a copy of the head's weights in float64."""
        return Explainer(self.artifact, partial(yield_cpu, EXPLAIN_SLEEP_FACTOR))

    def warm_up(self) -> None:
        """Score the golden rows a few times, so that the first request meets warm code and pages."""
        columns = columns_of(self.artifact.schema, self.artifact.golden.rows)
        for i in range(NUM_WARM_UP):
            rows = len(self.artifact.golden.rows) if i % 2 else 1
            batch = self.artifact.encoder.encode([values[:rows] for values in columns])
            self.artifact.predictor.logits(batch, np.ascontiguousarray(self.artifact.table[batch.ids]))


def make_served_model(
    artifact: Artifact, source: EmbeddingSource, max_rows: int, telemetry: Telemetry, yield_cpu: Callable[[], None]
) -> ServedModel:
    """Return all that serving a verified artifact needs.

    Args:
        artifact: the model version.
        source: of its embedding rows.
        max_rows: most rows, or candidates, in one request.
        telemetry: counts scores.
        yield_cpu: called after each fraction of a millisecond of work.
    """
    rank_wire = RankWire(artifact.schema, artifact.encoder, max_rows, yield_cpu)
    return ServedModel(
        artifact,
        source,
        PredictWire(artifact.schema, artifact.encoder, max_rows, yield_cpu),
        rank_wire,
        Ranker(artifact, rank_wire),
        ScoreMonitor(artifact.manifest.scores, telemetry),
    )
