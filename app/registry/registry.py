"""Which model is served: loads artifacts off the path of requests and swaps them by one reference."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.embeddings.source import EmbeddingSource
from app.observability.metrics import Telemetry
from app.problems import Problem
from app.registry.low_priority import pause, run_behind
from app.registry.rollback import OrderFile
from app.scoring.ranker import Ranker
from app.scoring.score_drift import ScoreMonitor
from app.wire.field_types import MAX_SEQUENCE, MAX_TOKEN_CHARS
from app.wire.predict_request import Wire
from models.artifact.artifact import Artifact, columns_of, load_artifact, read_current
from models.artifact.manifest import go_on
from models.errors import ArtifactError
from models.features.request_reader import RowReader

log = logging.getLogger("ctrserve.registry")

NUM_WARM_UP = 20


@dataclass(frozen=True)
class Snapshot:
    """All that belongs to one model version; a request takes one and uses it to its end."""

    artifact: Artifact
    source: EmbeddingSource
    reader: RowReader
    wire: Wire
    ranker: Ranker
    scores: ScoreMonitor


def settle_garbage(*, is_first: bool) -> None:
    """Collect what a model left behind; after the first, take all that lives out of the garbage collector's sight.

    That is the libraries, a quarter of a million objects to walk. Requests make no cycles, so the little that is left is
    collected rarely. Later models stay in sight, a thousand objects each, so that nothing of them remains when they go.
    """
    gc.collect()
    if is_first:
        gc.freeze()
        gc.set_threshold(50_000, 50, 100)


class Registry:
    """Holds the current `Snapshot` and the one before, and follows ``artifacts/current`` and an administrator's orders.

    Args:
        root: directory of artifacts.
        open_source: makes the embedding source of a verified artifact.
        max_rows: most rows in one request.
        prepare: called with a snapshot that is about to be served, off the path of requests.
        orders: shared by the workers of one service.
        telemetry: counts loads.
    """

    def __init__(
        self,
        root: Path,
        open_source: Callable[[Artifact], EmbeddingSource],
        max_rows: int,
        prepare: Callable[[Snapshot], None],
        orders: OrderFile,
        telemetry: Telemetry,
    ) -> None:
        self._prepare = prepare
        self._root = root
        self._open_source = open_source
        self._max_rows = max_rows
        self._telemetry = telemetry
        self._orders = orders
        self._order_number = ""
        self._refused: str | None = None
        self._lock = asyncio.Lock()
        self._rollback_lock = asyncio.Lock()
        self.current: Snapshot | None = None
        self.previous: Snapshot | None = None
        self.last_error: dict[str, str] | None = None
        self.num_loads = 0

    async def refresh(self) -> None:
        """Serve the version that ``current`` or an order names; keep the old one when that one must not be served."""
        async with self._lock:
            await self._refresh()

    @property
    def is_settled(self) -> bool:
        """Whether there is nothing to come of what ``current`` and the last order name: it is served, or refused for good."""
        return self.current is not None and (self.last_error is None or self._refused is not None)

    async def reload(self) -> None:
        """Forget what was refused and rolled back from, in every worker, and look again."""
        await asyncio.to_thread(self._orders.give)
        await self.refresh()

    async def roll_back(self) -> None:
        """Serve what was served before, in every worker, for as long as ``current`` names what it names now.

        It does not wait for a model that is being loaded, which will not be served when it is ready.

        Raises:
            Problem: ``no_previous``.
            ArtifactError: ``current`` cannot be read.
        """
        async with self._rollback_lock:
            if self.current is None or self.previous is None:
                raise Problem("no_previous")
            snapshot = self.previous
            named = await asyncio.to_thread(read_current, self._root)
            await asyncio.to_thread(self._orders.give, named, snapshot.artifact.model_version)
            await asyncio.to_thread(self._prepare, snapshot)  # somebody waits for it
            if self.current is not snapshot:
                self._serve(snapshot)

    async def _refresh(self) -> None:
        version = "-"
        try:
            order = await asyncio.to_thread(self._orders.read)
            if order.number != self._order_number:
                self._order_number = order.number
                self.last_error, self._refused = None, None
            version = await asyncio.to_thread(read_current, self._root)
            if version == order.skip and order.serve is not None:
                version = order.serve
            is_served = self.current is not None and version == self.current.artifact.model_version
            if is_served or version == self._refused:
                return
            if self.previous is not None and version == self.previous.artifact.model_version:
                snapshot = self.previous
                await asyncio.to_thread(self._prepare, snapshot)
            elif self.current is not None:
                snapshot = await run_behind(self._load, version)
            else:
                snapshot = await asyncio.to_thread(self._load, version)
            now = await asyncio.to_thread(self._orders.read)
        except ArtifactError as error:
            self._refuse(version, error)
            return
        except Exception as error:  # no memory for it, a disk that fails, a defect: the model before goes on
            log.exception("%s could not be loaded", version)
            self._refuse(version, ArtifactError("failed", f"could not be loaded: {type(error).__name__}"))
            return
        if (now.skip, now.serve) == (order.skip, order.serve):  # else it was rolled back from while it was loading
            self._serve(snapshot)

    def _serve(self, snapshot: Snapshot) -> None:
        self.previous, self.current = self.current, snapshot
        settle_garbage(is_first=self.previous is None)
        self.last_error, self._refused = None, None
        self.num_loads += 1
        self._telemetry.model_loads.labels("ok").inc()
        if self.previous is not None:
            self.previous.ranker.forget()
            self._telemetry.model_info.labels(self.previous.artifact.model_version).set(0)
        self._telemetry.model_info.labels(snapshot.artifact.model_version).set(1)
        log.info("serving %s", snapshot.artifact.model_version)

    def _refuse(self, named: str, error: ArtifactError) -> None:
        problem = {"version": named, "reason": error.reason, "message": str(error)}
        if problem != self.last_error:
            log.warning("refused %s: %s", named, error)
            self._telemetry.model_loads.labels(error.reason).inc()
        self.last_error = problem
        # A version that was found damaged is not looked at again; one that is not there yet may come.
        self._refused = named if error.reason not in ("missing", "path") else None

    def _load(self, version: str) -> Snapshot:
        is_first = self.current is None
        rest = go_on if is_first else pause
        artifact = load_artifact(self._root / version, num_threads=2 if is_first else 1, pause=rest)
        rest()
        snapshot = Snapshot(
            artifact,
            self._open_source(artifact),
            RowReader(artifact.encoder, self._max_rows, MAX_TOKEN_CHARS, MAX_SEQUENCE, rest),
            Wire(artifact.schema, self._max_rows),
            Ranker(artifact, self._max_rows),
            ScoreMonitor(artifact.manifest.scores, self._telemetry),
        )
        self._prepare(snapshot)
        if is_first:  # for a later one the code is warm, and its own rows were just scored
            _warm_up(artifact)
        return snapshot


def _warm_up(artifact: Artifact) -> None:
    columns = columns_of(artifact.schema, artifact.golden.rows)
    for i in range(NUM_WARM_UP):
        rows = len(artifact.golden.rows) if i % 2 else 1
        batch = artifact.encoder.encode([values[:rows] for values in columns])
        artifact.predictor.logits(batch, np.ascontiguousarray(artifact.table[batch.ids]))
