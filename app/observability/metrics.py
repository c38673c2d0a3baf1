"""The service's metrics, one object a process; the registry is its own, so tests can hold several side by side."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

from models.errors import ArtifactReason

STAGES = ("read", "rows", "head", "answer")
STAGES_EVERY = 16
SCORE_BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
LATENCY_BUCKETS_S = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)


class FieldCounts:
    """Counts by field on their way to a counter, whose own ``inc`` takes a microsecond for each field of each request.

    Args:
        counter: with the label ``field``.
    """

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._pending: defaultdict[str, int] = defaultdict(int)

    def add(self, counts: Mapping[str, int]) -> None:
        """Keep counts until `flush`."""
        for field, count in counts.items():
            self._pending[field] += count

    def flush(self) -> None:
        """Add what was kept to the counter."""
        for field, count in self._pending.items():
            self._counter.labels(field).inc(count)
        self._pending.clear()


class Telemetry:
    """All metrics. Every name, label and meaning stands in ``docs/operations.md``, and a test compares the two."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a time for each series, which nobody reads
        self.registry = CollectorRegistry()
        r = self.registry
        self.requests = Counter("ctr_requests", "Requests answered", ["path", "status"], registry=r)
        self.request_seconds = Histogram(
            "ctr_request_seconds", "Time from body to answer", ["path"], buckets=LATENCY_BUCKETS_S, registry=r
        )
        self.stage_seconds = Histogram(
            "ctr_stage_seconds",
            "Time of one stage of /predict, of every 16th request",
            ["stage"],
            buckets=LATENCY_BUCKETS_S,
            registry=r,
        )
        self._observe_stages = [self.stage_seconds.labels(stage).observe for stage in STAGES]
        self._num_unobserved = 0
        self.shed = Counter("ctr_shed", "Scored requests refused before any work", ["reason"], registry=r)
        self.rows = Counter("ctr_rows", "Impressions scored", registry=r)
        self.scores = Counter("ctr_scores", "Probabilities answered by /predict, up to a bound", ["up_to"], registry=r)
        self.score_buckets = [self.scores.labels(str(bound)) for bound in (*SCORE_BOUNDS, 1)]
        self.score_psi = Gauge(
            "ctr_score_psi",
            "Population stability index of the last 10,000 to 20,000 probabilities against the artifact's held-out days",
            multiprocess_mode="livemax",
            registry=r,
        )
        self.unseen = Counter(
            "ctr_unseen_values", "Values answered by the out-of-vocabulary row", ["field"], registry=r
        )
        self.missing = Counter("ctr_missing_values", "Fields absent or null", ["field"], registry=r)
        self.unseen_by_field, self.missing_by_field = FieldCounts(self.unseen), FieldCounts(self.missing)
        self.unknown_fields = Counter("ctr_unknown_fields", "Rows' fields that the schema does not have", registry=r)
        self.embedding_rows = Counter(
            "ctr_embedding_rows", "Embedding rows by the tier that answered: hot, redis, table", ["tier"], registry=r
        )
        self.redis_lookups = Counter(
            "ctr_redis_lookups",
            "Rows asked of Redis by outcome: hit, miss, corrupt, error, timeout, skipped",
            ["outcome"],
            registry=r,
        )
        self.redis_writes = Counter(
            "ctr_redis_writes", "Rows written behind to Redis: ok, error, dropped", ["outcome"], registry=r
        )
        self.redis_seconds = Histogram("ctr_redis_seconds", "Time of one MGET", buckets=LATENCY_BUCKETS_S, registry=r)
        self.breaker_open = Gauge(
            "ctr_redis_breaker_open",
            "1 while Redis is left alone after failures",
            multiprocess_mode="livemax",
            registry=r,
        )
        self.model_loads = Counter(
            "ctr_model_loads", "Artifact loads by result: ok, or the reason of refusal", ["result"], registry=r
        )
        for result in ("ok", *get_args(ArtifactReason)):
            self.model_loads.labels(result)  # from 0 on, so that an increase to 1 is one
        self.model_info = Gauge(
            "ctr_model_info",
            "1 for the model_version being served",
            ["model_version"],
            multiprocess_mode="livemax",
            registry=r,
        )
        ProcessCollector(registry=r)

    def note_stages(self, times_s: Sequence[float]) -> None:
        """Take the times float [5] between which the four stages lie, of one request in sixteen."""
        self._num_unobserved += 1
        if self._num_unobserved == STAGES_EVERY:
            self._num_unobserved = 0
            for observe, (start, end) in zip(self._observe_stages, pairwise(times_s), strict=True):
                observe(end - start)

    def flush(self) -> None:
        """Bring counters up to date; called every few seconds, for the workers that answer for this one too."""
        self.unseen_by_field.flush()
        self.missing_by_field.flush()

    def exposition(self) -> bytes:
        """Return all metrics in the Prometheus text format; of every worker, where several share a directory for them."""
        self.flush()
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self.registry)
        everyone = CollectorRegistry()
        MultiProcessCollector(everyone)  # type: ignore[no-untyped-call]  # registers itself
        return generate_latest(everyone)
