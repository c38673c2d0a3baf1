"""Which model is served: loads artifacts off the path of requests and swaps them by one reference."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable
from pathlib import Path

from app.embeddings.source import EmbeddingSource
from app.observability.metrics import Telemetry
from app.problems import Problem
from app.registry.file_watch import FileWatch
from app.registry.low_priority import run_low_priority, yield_cpu
from app.registry.rollback import RollbackFile
from app.scoring.catalog import CatalogFile
from app.scoring.served_model import ServedModel, make_served_model
from models.artifact.artifact import CURRENT, Artifact, load_artifact, read_current
from models.artifact.manifest import go_on
from models.errors import ArtifactError

log = logging.getLogger("ctrserve.registry")


def settle_garbage(*, is_first: bool) -> None:
    """Collect what a replaced model left; after the first load, hide all live objects from the garbage collector.

    Those are a quarter of a million objects of libraries. Requests make no cycles, so the collector runs rarely from
    then on. Later models stay visible to it, a thousand objects each, so that nothing of them remains when they go.
    """
    gc.collect()
    if is_first:
        gc.freeze()
        gc.set_threshold(50_000, 50, 100)


class Registry:
    """Holds the served model and the one before, and follows ``artifacts/current``, rollbacks and the catalog.

    Args:
        root: directory of artifacts.
        open_source: makes the embedding source of a verified artifact.
        max_rows: most rows in one request.
        catalog: its activations are computed for a model before it is served.
        rollbacks: shared by the workers of one service.
        telemetry: counts loads.
    """

    def __init__(
        self,
        root: Path,
        open_source: Callable[[Artifact], EmbeddingSource],
        max_rows: int,
        catalog: CatalogFile,
        rollbacks: RollbackFile,
        telemetry: Telemetry,
    ) -> None:
        self._root = root
        self._open_source = open_source
        self._max_rows = max_rows
        self._catalog = catalog
        self._telemetry = telemetry
        self._rollbacks = rollbacks
        self._rollback_number = ""
        self._watch = FileWatch(path for path in (root / CURRENT, rollbacks.path) if path is not None)
        self._refused: str | None = None
        self._lock = asyncio.Lock()
        self._rollback_lock = asyncio.Lock()
        self.current: ServedModel | None = None
        self.previous: ServedModel | None = None
        self.last_error: dict[str, str] | None = None
        self.num_loads = 0

    async def follow(self) -> None:
        """Serve another model if ``current`` or a rollback asks for one; a `Follower` job."""
        is_settled = self.current is not None and (self.last_error is None or self._refused is not None)
        if self._watch.has_changed() or not is_settled:
            await self.refresh()

    async def follow_catalog(self) -> None:
        """Read the catalog if its file changed, and compute its activations for the served model; a `Follower` job."""
        await self._catalog.follow()
        if self.current is not None and not self.current.ranker.is_prepared(self._catalog.current):
            await run_low_priority(self._prepare, self.current)

    async def refresh(self) -> None:
        """Serve the version that ``current`` or a rollback names; keep the model before when that one is refused."""
        async with self._lock:
            await self._refresh()

    async def reload(self) -> None:
        """Forget refusals and rollbacks, in every worker, and look again."""
        await asyncio.to_thread(self._rollbacks.write)
        await self.refresh()

    async def roll_back(self) -> None:
        """Serve the model before, in every worker, for as long as ``current`` names what it names now.

        Does not wait for a model that is being loaded; that one is not served when it is ready.

        Raises:
            Problem: ``no_previous``.
            ArtifactError: ``current`` cannot be read.
        """
        async with self._rollback_lock:
            if self.current is None or self.previous is None:
                raise Problem("no_previous")
            model = self.previous
            named = await asyncio.to_thread(read_current, self._root)
            await asyncio.to_thread(self._rollbacks.write, named, model.version)
            await asyncio.to_thread(self._prepare, model)  # at normal priority: the administrator waits for it
            if self.current is not model:
                self._serve(model)

    async def _refresh(self) -> None:
        version = "-"
        try:
            rollback = await asyncio.to_thread(self._rollbacks.read)
            if rollback.number != self._rollback_number:
                self._rollback_number = rollback.number
                self.last_error, self._refused = None, None
            version = await asyncio.to_thread(read_current, self._root)
            if version == rollback.skip and rollback.serve is not None:
                version = rollback.serve
            is_served = self.current is not None and version == self.current.version
            if is_served or version == self._refused:
                return
            if self.previous is not None and version == self.previous.version:
                model = self.previous
            elif self.current is not None:
                model = await run_low_priority(self._load, version)
            else:
                model = await asyncio.to_thread(self._load, version)
            await asyncio.to_thread(self._prepare, model)
            now = await asyncio.to_thread(self._rollbacks.read)
        except ArtifactError as error:
            self._refuse(version, error)
            return
        except Exception as error:  # no memory for it, a disk that fails, a defect: the model before goes on
            log.exception("%s could not be loaded", version)
            self._refuse(version, ArtifactError("failed", f"could not be loaded: {type(error).__name__}"))
            return
        if now.model_copy(update={"number": rollback.number}) == rollback:  # else it was rolled back from meanwhile
            self._serve(model)

    def _serve(self, model: ServedModel) -> None:
        self.previous, self.current = self.current, model
        settle_garbage(is_first=self.previous is None)
        self.last_error, self._refused = None, None
        self.num_loads += 1
        self._telemetry.model_loads.labels("ok").inc()
        if self.previous is not None:
            self.previous.ranker.forget()
            self._telemetry.model_info.labels(self.previous.version).set(0)
        self._telemetry.model_info.labels(model.version).set(1)
        log.info("serving %s", model.version)

    def _refuse(self, named: str, error: ArtifactError) -> None:
        problem = {"version": named, "reason": error.reason, "message": str(error)}
        if problem != self.last_error:
            log.warning("refused %s: %s", named, error)
            self._telemetry.model_loads.labels(error.reason).inc()
        self.last_error = problem
        # A version that was found damaged is not looked at again; one that is not there yet may come.
        self._refused = named if error.reason not in ("missing", "path") else None

    def _load(self, version: str) -> ServedModel:
        is_first = self.current is None
        pause = go_on if is_first else yield_cpu
        artifact = load_artifact(self._root / version, num_threads=2 if is_first else 1, pause=pause)
        pause()
        model = make_served_model(artifact, self._open_source(artifact), self._max_rows, self._telemetry, pause)
        self._prepare(model)
        if is_first:  # for a later one the code is warm, and its own rows were just scored
            model.warm_up()
        return model

    def _prepare(self, model: ServedModel) -> None:
        catalog = self._catalog.current
        if not model.ranker.is_prepared(catalog):
            try:
                model.ranker.prepare(catalog)
            except Problem as problem:
                log.warning("the catalog does not fit the model: %s", problem.code)
