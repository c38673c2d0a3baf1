"""``create_app``: wires settings, telemetry, registry and routes into one ASGI app. Nothing happens at import."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi_swagger import patch_fastapi
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.embeddings.redis_rows import RedisRows
from app.embeddings.source import EmbeddingSource
from app.embeddings.tiers import TieredSource
from app.errors import Problem, answer_internal_error, answer_method_not_allowed, answer_not_found, answer_problem
from app.registry import Registry
from app.routes import PREDICT_ROUTE, Service, describe_openapi, router
from app.settings import Settings
from app.telemetry import Telemetry
from models.artifact import Artifact

PATHS = ("/predict", "/health/live", "/health/ready", "/model", "/metrics")


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
    app.routes.append(PREDICT_ROUTE)
    app.include_router(router)
    if settings.docs:
        patch_fastapi(app)
        app.openapi = _openapi(app)  # type: ignore[method-assign]
    app.add_middleware(CountRequests, telemetry=telemetry)
    return app


class CountRequests:
    """Counts and times every request, by path and status; unknown paths share one label."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        self._app = app
        self._requests = telemetry.requests
        self._seconds = {path: telemetry.request_seconds.labels(path) for path in (*PATHS, "other")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app, noting the status that it sends."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        path = scope["path"] if scope["path"] in PATHS else "other"
        status = 500

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            self._seconds[path].observe(time.perf_counter() - started)
            self._requests.labels(path, str(status)).inc()


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
