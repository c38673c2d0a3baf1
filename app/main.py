"""``create_app``: wires settings, telemetry, registry and routes into one ASGI app. Nothing happens at import."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from fastapi_swagger import patch_fastapi
from starlette.responses import HTMLResponse, RedirectResponse

from app.embeddings.redis_rows import RedisRows
from app.embeddings.source import EmbeddingSource
from app.embeddings.tiers import TieredSource
from app.http.admin_routes import router as admin_router
from app.http.admission import Gate
from app.http.api_keys import KeyFile
from app.http.crowd import Crowd, SendAnswer
from app.http.draining import draining_first
from app.http.endpoint import HotPath, Together
from app.http.http_exchange import Outbox
from app.http.openapi import ask_for_keys, describe_model
from app.http.routes import Service, metrics_router, router
from app.http.turns import Turns
from app.observability.metrics import Telemetry
from app.problems import Problem, answer_internal_error, answer_method_not_allowed, answer_not_found, answer_problem
from app.registry.file_watch import when_changed
from app.registry.follower import Follower, Job
from app.registry.registry import Registry
from app.registry.rollback import DIRECTORY, RollbackFile
from app.scoring.catalog import CatalogFile
from app.scoring.micro_batcher import Batcher
from app.scoring.predict import predict, predict_at_once, predict_soon
from app.scoring.rank import rank
from app.settings import Settings
from models.artifact.artifact import Artifact

PATHS = ("/catalog", "/health/live", "/health/ready", "/model", "/metrics", "/admin/reload", "/admin/rollback")


def create_app(settings: Settings | None = None) -> HotPath:
    """Return the app; resources are opened by its lifespan.

    Args:
        settings: read from the environment when not given, as in a worker process.
    """
    settings = settings or Settings()
    telemetry = Telemetry()
    batcher = Batcher()
    keys = None if settings.keys is None else KeyFile(settings.keys, settings.workers)
    service: Service | None = None  # of the lifespan; Starlette's state is slow to ask

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, object]]:
        redis = _open_redis(settings, telemetry)
        catalog = CatalogFile(settings.catalog)

        open_source = source_factory(settings, telemetry, redis)
        shared = os.environ.get(DIRECTORY)
        rollbacks = RollbackFile(None if shared is None else Path(shared))
        registry = Registry(settings.artifacts, open_source, settings.max_rows, catalog, rollbacks, telemetry)
        nonlocal service
        service = Service(settings, telemetry, registry, catalog, redis.state if redis else lambda: "off")
        app.state.service = service

        async def count_scores() -> None:
            if registry.current is not None:
                registry.current.scores.count()

        jobs: dict[str, Job] = {
            "catalog": registry.follow_catalog,
            "model": registry.follow,
            "score drift": count_scores,
        }
        if keys is not None and settings.keys is not None:
            jobs["keys"] = when_changed([settings.keys], keys.refresh)
        try:
            loop = asyncio.get_running_loop()
            async with Follower(settings.poll_s, jobs):
                with draining_first(begin_drain, settings.drain_s):
                    yield {
                        "gate": Gate(
                            settings.max_waiting, settings.max_waiting_bytes, settings.max_body_bytes, telemetry
                        ),
                        "outbox": Outbox(loop),
                        "turns": Turns(loop),
                        "crowd": Crowd(loop, hot_path),
                        "hot_path": hot_path,
                    }
        finally:
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
        redirect_slashes=False,  # it would send clients to whatever their Host header names
        openapi_url="/openapi.json" if settings.docs else None,
        exception_handlers={
            Problem: answer_problem,
            404: answer_not_found,
            405: answer_method_not_allowed,
            Exception: answer_internal_error,
        },
    )
    app.include_router(router)
    if settings.metrics:
        app.include_router(metrics_router)
    if keys is not None:
        app.include_router(admin_router)
    if settings.docs:
        _serve_docs(app)
        app.openapi = _openapi(app, has_keys=keys is not None)  # type: ignore[method-assign]

    def get_service() -> Service:
        assert service is not None  # no request comes before
        return service

    async def answer_predict(body: bytes) -> bytes:
        return await predict(get_service().snapshot(), body, batcher, telemetry)

    def may_wait_for_rows() -> bool:
        snapshot = get_service().registry.current
        return snapshot is not None and snapshot.source.may_wait

    def answer_predict_at_once(bodies: Sequence[bytes], send: SendAnswer) -> None:
        predict_at_once(get_service().snapshot(), bodies, send, telemetry)

    async def answer_predict_soon(bodies: Sequence[bytes], send: SendAnswer) -> None:
        await predict_soon(get_service().snapshot(), bodies, send, telemetry)

    async def answer_rank(body: bytes) -> bytes:
        service = get_service()
        return await rank(service.snapshot(), service.catalog.current, body, telemetry)

    hot_path = HotPath(
        app,
        handlers={"/predict": answer_predict, "/rank": answer_rank},
        together=Together("/predict", may_wait_for_rows, answer_predict_at_once, answer_predict_soon),
        paths=PATHS,
        max_body_bytes=settings.max_body_bytes,
        telemetry=telemetry,
        keys=keys,
    )

    def begin_drain() -> None:
        hot_path.is_draining = True

    return hot_path


def _open_redis(settings: Settings, telemetry: Telemetry) -> RedisRows | None:
    if settings.redis_url is None:
        return None
    return RedisRows(settings.redis_url.get_secret_value(), settings.redis_timeout_ms, settings.redis_ttl_s, telemetry)


def source_factory(
    settings: Settings, telemetry: Telemetry, redis: RedisRows | None
) -> Callable[[Artifact], EmbeddingSource]:
    """Return what makes the embedding source of a verified artifact."""

    def open_source(artifact: Artifact) -> EmbeddingSource:
        return TieredSource(
            artifact.table,
            block_starts=artifact.encoder.block_starts,
            counts=artifact.counts,
            hot_bytes=settings.hot_bytes,
            table_digest=artifact.manifest.table_digest,
            redis=redis,
            telemetry=telemetry,
            largest=artifact.largest,
        )

    return open_source


def _serve_docs(app: FastAPI) -> None:
    # The package's own two pages would build links, a script's too, from the Host header. These two come first.
    @app.get("/", include_in_schema=False)
    async def redirect_to_docs() -> RedirectResponse:
        return RedirectResponse("/docs")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title=app.title,
            swagger_js_url="/swagger/swagger-ui-bundle.js",
            swagger_css_url="/swagger/swagger-ui.css",
            swagger_favicon_url="/swagger/favicon-32x32.png",
        )

    patch_fastapi(app, redirect_from_root_to_docs=False)


def _openapi(app: FastAPI, *, has_keys: bool) -> Callable[[], dict[str, Any]]:
    def openapi() -> dict[str, Any]:
        # Made anew each time: the model, and with it the schema, may have changed.
        document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        service = getattr(app.state, "service", None)
        document = describe_model(document, service.registry.current if service else None)
        return ask_for_keys(document) if has_keys else document

    return openapi
