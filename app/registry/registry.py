"""Which model is served: loads artifacts off the path of requests and swaps them by one reference."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from app.embeddings.source import EmbeddingSource
from app.low_priority import run_low_priority, yield_cpu
from app.observability.metrics import Telemetry
from app.problems import Problem
from app.registry.file_watch import FileWatch
from app.registry.refusal import Refusal, Stamps, stamps_of
from app.registry.rollback import RollbackFile
from app.scoring.catalog import CatalogFile
from app.scoring.served_model import ServedModel, make_served_model
from models.artifact.artifact import Artifact, load_artifact, release_frames
from models.artifact.current import CURRENT, Current, Found, find_artifact, is_artifact, set_current
from models.artifact.manifest import MANIFEST, VERSION_PATTERN
from models.errors import ArtifactError
from models.features.request_reader import keep_cpu

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
        path: directory of artifacts, or of one artifact, which then is the one that is served.
        open_source: makes the embedding source of a verified artifact.
        max_rows: most rows in one request.
        catalog: its activations are computed for a model before it is served.
        rollbacks: shared by the workers of one service.
        telemetry: counts loads.
        clock: seconds, never going back.
    """

    def __init__(
        self,
        path: Path,
        open_source: Callable[[Artifact], EmbeddingSource],
        max_rows: int,
        catalog: CatalogFile,
        rollbacks: RollbackFile,
        telemetry: Telemetry,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._open_source = open_source
        self._max_rows = max_rows
        self._catalog = catalog
        self._telemetry = telemetry
        self._rollbacks = rollbacks
        self._rollback_number = ""
        self._watch = FileWatch(file for file in (path / CURRENT, path / MANIFEST, rollbacks.path) if file is not None)
        self._refusal: Refusal | None = None
        self._clock = clock
        self._lock = asyncio.Lock()
        self._rollback_lock = asyncio.Lock()
        self.current: ServedModel | None = None
        self.previous: ServedModel | None = None
        self.num_loads = 0

    @property
    def last_error(self) -> Mapping[str, str] | None:
        """``version``, ``reason`` and ``message`` of what ``current`` names, where it was refused."""
        return None if self._refusal is None else self._refusal.problem

    async def follow(self) -> None:
        """Serve another model if ``current`` or a rollback asks for one; a `Follower` job."""
        if self._watch.has_changed() or (self._refusal is not None and self._refusal.is_due()):
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

    async def roll_back(self, version: str | None = None) -> None:
        """Serve another version, in every worker, for as long as ``current`` names what it names now.

        The model before is served at once: that does not wait for a model that is being loaded, which is not served when it
        is ready. Nothing changes where the version cannot be served.

        Args:
            version: to serve; ``None`` for the model before.

        Raises:
            Problem: ``no_previous`` or ``unknown_version``.
            ArtifactError: ``current`` cannot be read, or the version must not be served.
        """
        async with self._rollback_lock:
            if self.current is None or (version is None and self.previous is None):
                raise Problem("no_previous")
            root, named = await self._named()
            model = self.previous if version is None else await self._verified(root, version)
            assert model is not None
            ends = model.version == named.version
            await asyncio.to_thread(self._rollbacks.write, *(() if ends else (named.version, model.version)))
            await asyncio.to_thread(self._prepare, model)  # at normal priority: the administrator waits for it
            if self.current is not model:
                self._serve(model)

    async def promote(self, version: str) -> None:
        """Verify a version, make it the current one on disk and serve it, in every worker.

        Raises:
            Problem: ``unknown_version``, or ``current_not_kept`` where ``current`` cannot be written.
            ArtifactError: the version must not be served.
        """
        async with self._rollback_lock:
            if is_artifact(self._path):
                raise Problem("unknown_version", "the service was started for one artifact")
            model = await self._verified(self._path, version)
            try:
                await asyncio.to_thread(set_current, self._path, version)
            except OSError as error:
                raise Problem("current_not_kept") from error
            await asyncio.to_thread(self._rollbacks.write)
            await asyncio.to_thread(self._prepare, model)
            if self.current is not model:
                self._serve(model)

    async def _named(self) -> Found:
        try:
            return await asyncio.to_thread(find_artifact, self._path)
        except OSError as error:
            raise ArtifactError("failed", f"{CURRENT}: cannot be read now") from error

    async def _verified(self, root: Path, version: str) -> ServedModel:
        for model in (self.current, self.previous):
            if model is not None and model.version == version:
                return model
        if not re.fullmatch(VERSION_PATTERN, version) or not await asyncio.to_thread(is_artifact, root / version):
            raise Problem("unknown_version")
        try:
            return await run_low_priority(self._load, root, Current(version))
        except (OSError, MemoryError) as error:
            release_frames(error)
            raise ArtifactError("failed", f"could not be loaded: {type(error).__name__}") from error

    async def _refresh(self) -> None:
        root, target, stamps = self._path, None, Stamps()
        try:
            rollback = await asyncio.to_thread(self._rollbacks.read)
            if rollback.number != self._rollback_number:
                self._rollback_number, self._refusal = rollback.number, None
            root, target = await asyncio.to_thread(find_artifact, self._path)
            if target.version == rollback.skip and rollback.serve is not None:
                target = Current(rollback.serve)
            if self._refusal is not None and self._refusal.target == target and not self._refusal.is_due():
                return
            if _is(self.current, target):
                self._refusal = None
                return
            stamps = stamps_of(root, target)
            if self.previous is not None and _is(self.previous, target):
                model = self.previous
            elif self.current is not None:
                model = await run_low_priority(self._load, root, target)
            else:
                model = await asyncio.to_thread(self._load, root, target)
            if not model.ranker.is_prepared(self._catalog.current):  # the catalog changed meanwhile
                await run_low_priority(self._prepare, model)
            now = await asyncio.to_thread(self._rollbacks.read)
        except Exception as error:  # noqa: BLE001  # damage, no memory, a failing disk, a defect: the model before goes on
            self._refuse(root, target, stamps, error)
            release_frames(error)
            return
        if now.model_copy(update={"number": rollback.number}) == rollback:  # else it was rolled back from meanwhile
            self._serve(model)

    def _serve(self, model: ServedModel) -> None:
        self.previous, self.current = self.current, model
        settle_garbage(is_first=self.previous is None)
        self._refusal = None
        self.num_loads += 1
        self._telemetry.model_loads.labels("ok").inc()
        if self.previous is not None:
            self.previous.ranker.forget()
            self._telemetry.model_info.labels(self.previous.version).set(0)
        self._telemetry.model_info.labels(model.version).set(1)
        log.info("serving %s", model.version)

    def _refuse(self, root: Path, target: Current | None, stamps: Stamps, error: Exception) -> None:
        """Remember a refusal; count and log it when it is another one than before."""
        fault = error
        if not isinstance(fault, ArtifactError):
            fault = ArtifactError("failed", f"could not be loaded: {type(error).__name__}")
        before = self.last_error
        self._refusal = Refusal(root, target, stamps, fault, self._refusal, self._clock)
        if self.last_error != before:
            log.warning("refused %s: %s", self._refusal.problem["version"], fault, exc_info=fault is not error)
            self._telemetry.model_loads.labels(fault.reason).inc()

    def _load(self, root: Path, target: Current) -> ServedModel:
        is_first = self.current is None
        give_way = keep_cpu if is_first else yield_cpu  # at the start there are no requests
        artifact = load_artifact(
            root / target.version,
            target.manifest_sha256,
            num_threads=2 if is_first else 1,
            yield_cpu=give_way,
        )
        give_way()
        model = make_served_model(artifact, self._open_source(artifact), self._max_rows, self._telemetry, give_way)
        self._prepare(model)
        if is_first:  # for a later one the code is warm, and its own rows were just scored
            model.warm_up()
        return model

    def _prepare(self, model: ServedModel) -> None:
        catalog = self._catalog.current
        if catalog is not None and not model.ranker.is_prepared(catalog):
            try:
                model.ranker.prepare(catalog)
            except Problem as problem:
                log.warning("the catalog does not fit the model: %s", problem.code)


def _is(model: ServedModel | None, target: Current) -> bool:
    return (
        model is not None
        and model.version == target.version
        and target.manifest_sha256 in (None, model.artifact.manifest_sha256)
    )
