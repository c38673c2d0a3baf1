"""``create_app``: wires settings, telemetry, registry and routes into one ASGI app. Nothing happens at import."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi_swagger import patch_fastapi

from app.embeddings.redis_rows import RedisRows
from app.embeddings.source import EmbeddingSource
from app.embeddings.tiers import TieredSource
from app.errors import Problem, answer_internal_error, answer_method_not_allowed, answer_not_found, answer_problem
from app.hot_path import HotPath
from app.registry import Registry
from app.routes import Service, describe_openapi, router
from app.scorer import predict
from app.settings import Settings
from app.telemetry import Telemetry
from models.artifact import Artifact

PATHS = ("/health/live", "/health/ready", "/model", "/metrics")


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the app; resources are opened by its lifespan.

    Args:
        settings: read from the environment when not given, as in a worker process.
    """
    settings = settings or Settings()
    telemetry = Telemetry()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        redis = _open_redis(settings, telemetry)
        registry = Registry(
            settings.artifacts, _source_factory(settings, telemetry, redis), settings.max_rows, telemetry
        )
        app.state.service = Service(settings, telemetry, registry, redis.state if redis else lambda: "off")
        await registry.refresh()
        follower = asyncio.create_task(registry.follow(settings.poll_s))
        try:
            yield
        finally:
            follower.cancel()
            await asyncio.gather(follower, return_exceptions=True)
            if redis is not None:
                await redis.aclose()

    app = FastAPI(
        title="ctrserve",
        summary="Calibrated click probabilities",
        version="0.1.0",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        openapi_url="/openapi.json" if settings.docs else None,
        exception_handlers={
            Problem: answer_problem,
            404: answer_not_found,
            405: answer_method_not_allowed,
            Exception: answer_internal_error,
        },
    )
    app.include_router(router)
    if settings.docs:
        patch_fastapi(app)
        app.openapi = _openapi(app)  # type: ignore[method-assign]
    app.add_middleware(
        HotPath,
        handlers={"/predict": lambda body: predict(app.state.service.snapshot(), body, telemetry)},
        paths=PATHS,
        max_body_bytes=settings.max_body_bytes,
        telemetry=telemetry,
    )
    return app


def _open_redis(settings: Settings, telemetry: Telemetry) -> RedisRows | None:
    if settings.redis_url is None:
        return None
    return RedisRows(settings.redis_url.get_secret_value(), settings.redis_timeout_ms, settings.redis_ttl_s, telemetry)


def _source_factory(
    settings: Settings, telemetry: Telemetry, redis: RedisRows | None
) -> Callable[[Artifact], EmbeddingSource]:
    def open_source(artifact: Artifact) -> EmbeddingSource:
        return TieredSource(
            artifact.table,
            block_starts=artifact.encoder.block_starts,
            counts=artifact.counts,
            hot_bytes=settings.hot_bytes,
            table_digest=artifact.manifest.table_digest,
            redis=redis,
            telemetry=telemetry,
        )

    return open_source


def _openapi(app: FastAPI) -> Callable[[], dict[str, Any]]:
    def openapi() -> dict[str, Any]:
        # Made anew each time: the model, and with it the schema, may have changed.
        document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        return describe_openapi(app, document)

    return openapi
