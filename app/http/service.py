"""What the routes of one process share: settings, metrics, keys, catalog, models and Redis."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from app.embeddings.redis_rows import RedisRows
from app.embeddings.source import EmbeddingSource
from app.embeddings.tiers import TieredSource
from app.http.admission import Uploads
from app.http.api_keys import KeyFile
from app.observability.metrics import Telemetry
from app.problems import Problem
from app.registry.file_watch import when_changed
from app.registry.follower import Follower, Job
from app.registry.registry import Registry
from app.registry.rollback import DIRECTORY, RollbackFile
from app.scoring.catalog import CatalogFile
from app.scoring.served_model import ServedModel
from app.settings import Settings
from models.artifact.artifact import Artifact


class Service:
    """Opens and closes what a process serves with; one a process.

    Args:
        settings: of the process.
        telemetry: counts everything.

    Raises:
        OSError: the key file cannot be read.
        ValueError: the key file is none.
    """

    def __init__(self, settings: Settings, telemetry: Telemetry) -> None:
        self.settings = settings
        self.telemetry = telemetry
        self.keys = None if settings.keys is None else KeyFile(settings.keys, settings.workers)
        self.catalog = CatalogFile(settings.catalog)
        self.catalog_uploads = Uploads(settings.max_catalog_bytes, telemetry)
        shared = os.environ.get(DIRECTORY)
        rollbacks = RollbackFile(None if shared is None else Path(shared))
        self.registry = Registry(
            settings.artifacts, self._open_source, settings.max_rows, self.catalog, rollbacks, telemetry
        )
        self.document: tuple[ServedModel | None, bytes] | None = None
        """The OpenAPI document, as bytes, and the model that it describes."""
        self.is_draining = False
        self._redis: RedisRows | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Connect to Redis, load the model and follow the files until the end."""
        jobs: dict[str, Job] = {
            "catalog": self.registry.follow_catalog,
            "model": self.registry.follow,
            "counts": self._count,
        }
        if self.keys is not None and self.settings.keys is not None:
            jobs["keys"] = when_changed([self.settings.keys], self.keys.refresh)
        url, settings = self.settings.redis_url, self.settings
        if url is not None:
            self._redis = RedisRows(
                url.get_secret_value(), settings.redis_timeout_ms, settings.redis_ttl_s, self.telemetry
            )
        try:
            async with Follower(settings.poll_s, jobs):
                yield
        finally:
            if self._redis is not None:
                await self._redis.aclose()
            self.telemetry.flush()

    def model(self) -> ServedModel:
        """Return the model that is served now.

        Raises:
            Problem: ``no_model``.
        """
        model = self.registry.current
        if model is None:
            raise Problem("no_model", retry_after_s=1)
        return model

    def redis_state(self) -> Literal["off", "ok", "unavailable"]:
        """Return what readiness shows of Redis."""
        return "off" if self._redis is None else self._redis.state()

    def _open_source(self, artifact: Artifact) -> EmbeddingSource:
        return TieredSource(
            artifact.table,
            block_starts=artifact.encoder.block_starts,
            counts=artifact.counts,
            hot_bytes=self.settings.hot_bytes,
            table_digest=artifact.manifest.table_digest,
            redis=self._redis,
            largest=artifact.largest,
            telemetry=self.telemetry,
        )

    async def _count(self) -> None:
        self.telemetry.flush()
        if self.registry.current is not None:
            self.registry.current.scores.count()
