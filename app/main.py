"""``create_app``: wires settings, service, endpoint and routes into one ASGI app. Nothing happens at import."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

from fastapi import FastAPI

from app.http import admin_routes, docs, open_inference, routes
from app.http.admission import Admission, Uploads
from app.http.api_keys import KeyFile
from app.http.draining import draining_first
from app.http.endpoint import Application, Endpoint
from app.http.error_answers import answer_http_error, answer_internal_error, answer_problem
from app.http.guarded_routes import check_declared
from app.http.open_inference import InferenceEndpoint
from app.http.service import Service
from app.observability.metrics import Telemetry
from app.problems import Problem
from app.scoring.explain import MAX_WAITING, ExplainQueue
from app.scoring.micro_batcher import MicroBatcher
from app.scoring.predict import predict_scorer
from app.scoring.rank import rank_scorer
from app.settings import Settings

if TYPE_CHECKING:  # of an extra
    from app.observability.spans import Spans


def create_app(settings: Settings | None = None, spans: Spans | None = None) -> Application:
    """Return the app; its lifespan opens what it serves with.

    Args:
        settings: read from the environment when not given, as in a worker process.
        spans: where traces go, instead of the exporter that ``traces`` among the settings asks for.
    """
    settings = settings or Settings()
    telemetry = Telemetry()
    service = Service(settings, telemetry)
    batcher = MicroBatcher()
    scorers = {
        "/predict": predict_scorer(service.model, telemetry),
        "/rank": rank_scorer(service.model, telemetry),
    }
    uploads = Uploads(settings.max_waiting_bytes, telemetry)

    def endpoint(admission: Admission, keys: KeyFile | None = service.keys) -> Endpoint:
        return Endpoint(keys, admission, uploads, settings.max_body_bytes, telemetry)

    admission = Admission(settings.max_waiting, settings.max_waiting_bytes, telemetry)
    aside = Admission(MAX_WAITING, settings.max_waiting_bytes, telemetry)
    scores = {path: partial(batcher.answer, scorer) for path, scorer in scorers.items()}
    scored = {path: partial(endpoint(admission).answer, score=score) for path, score in scores.items()}
    scored["/explain"] = partial(endpoint(aside).answer, score=ExplainQueue(service.model).answer)

    if spans is None and settings.traces:
        from app.observability.spans import Spans

        spans = Spans()

    @asynccontextmanager
    async def lifespan(framework: FastAPI) -> AsyncIterator[None]:
        try:
            async with service.running():
                with draining_first(begin_drain, settings.drain_s):
                    yield
        finally:
            if spans is not None:
                await asyncio.to_thread(spans.close)

    framework = FastAPI(
        title="ctrserve",
        summary="Calibrated click probabilities",
        version=version("ctrserve"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,  # it would send clients to whatever their Host header names
        exception_handlers={
            Problem: answer_problem,
            404: answer_http_error,
            405: answer_http_error,
            Exception: answer_internal_error,
        },
    )
    framework.state.service = service
    framework.state.inference = InferenceEndpoint(endpoint(admission, keys=None), scores["/predict"])
    routers = [routes.router, open_inference.router]
    if settings.metrics:
        routers.append(routes.metrics_router)
    if service.keys is not None:
        routers.append(admin_routes.router)
    if settings.docs:
        routers.append(docs.router)
    for router in routers:
        check_declared(router.routes)
        framework.include_router(router)
    application = Application(framework, scored, telemetry, spans)

    def begin_drain() -> None:
        application.is_draining = service.is_draining = True

    return application
