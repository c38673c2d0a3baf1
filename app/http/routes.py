"""Ordinary FastAPI routes: health, model, catalog, metrics."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from app.http.api_keys import refuse_browsers
from app.http.error_answers import MEDIA_TYPE
from app.http.guarded_routes import PUBLIC, requires
from app.http.request_body import read_json_body
from app.http.service import Service
from app.problems import Problem

router = APIRouter()
metrics_router = APIRouter()


def get_service(request: Request) -> Service:
    """Return the process's `Service`."""
    return cast(Service, request.app.state.service)


ServiceDep = Annotated[Service, Depends(get_service)]


class Live(BaseModel):
    """The process answers."""

    status: Literal["live"] = "live"


class Ready(BaseModel):
    """A verified, warmed model is loaded."""

    status: Literal["ready"] = "ready"
    model_version: str
    redis: Literal["off", "ok", "unavailable"]
    """Shown, not judged: without Redis the answers are the same."""


class FieldInfo(BaseModel):
    """One input of the model."""

    name: str
    kind: str
    side: str
    dtype: str | None
    num_tokens: int


class ModelInfo(BaseModel):
    """What is served, and what was last refused."""

    service_version: str
    """Of ctrserve, as `ctrserve --version` says it."""
    model_version: str | None = None
    created: str | None = None
    metrics: dict[str, Any] = {}
    calibration: str | None = None
    table_rows: int | None = None
    embedding_dim: int | None = None
    data: dict[str, Any] = {}
    environment: dict[str, str] = {}
    fields: list[FieldInfo] = []
    last_error: dict[str, str] | None = None
    """The last artifact that was refused: ``version``, ``reason`` and ``message``."""


@router.get("/health/live", tags=["health"], dependencies=[PUBLIC])
async def live() -> Live:
    """Whether the process answers."""
    return Live()


@router.get(
    "/health/ready",
    tags=["health"],
    dependencies=[PUBLIC],
    responses={503: {"content": {MEDIA_TYPE: {}}, "description": "No model yet"}},
)
async def ready(service: ServiceDep) -> Ready:
    """Whether requests can be answered."""
    if service.is_draining:
        raise Problem("draining")
    return Ready(model_version=service.model().artifact.model_version, redis=service.redis_state())


@router.get("/model", tags=["model"], dependencies=[requires("predict")])
async def model(request: Request, service: ServiceDep) -> ModelInfo:
    """Describe the model that is served: fields, metrics, versions, and the last artifact refused."""
    registry = service.registry
    if registry.current is None:
        return ModelInfo(service_version=request.app.version, last_error=registry.last_error)
    artifact = registry.current.artifact
    manifest, schema = artifact.manifest, artifact.schema
    fields = [
        FieldInfo(name=f.name, kind=f.kind, side=f.side, dtype=fit.dtype, num_tokens=schema.num_tokens[f.block])
        for f, fit in zip(schema.features.fields, schema.fitted, strict=True)
    ]
    return ModelInfo(
        service_version=request.app.version,
        model_version=manifest.model_version,
        created=manifest.created,
        metrics=dict(manifest.metrics),
        calibration=artifact.predictor.calibration.method,
        table_rows=manifest.table_rows,
        embedding_dim=manifest.model.embedding_dim,
        data=manifest.data.model_dump(mode="json"),
        environment=dict(manifest.environment),
        fields=fields,
        last_error=registry.last_error,
    )


class CatalogInfo(BaseModel):
    """What the catalog holds now."""

    items: int


@router.put("/catalog", include_in_schema=False, dependencies=[requires("admin")])
async def put_catalog(request: Request, service: ServiceDep) -> CatalogInfo:
    """Replace the candidates that ``/rank`` takes by id; other workers follow within ``CTR_POLL_S``."""
    model, catalog = service.model(), service.catalog
    headers = dict(request.scope["headers"])
    refuse_browsers(headers)
    body = await read_json_body(headers, request.receive, service.settings.max_catalog_bytes, service.catalog_uploads)
    await asyncio.to_thread(model.rank_wire.parse_catalog, body)
    new = await asyncio.to_thread(catalog.replace, body)
    return CatalogInfo(items=len(await asyncio.to_thread(model.ranker.prepare, new)))


@metrics_router.get("/metrics", tags=["health"], response_class=Response, dependencies=[requires("metrics")])
async def metrics(service: ServiceDep) -> Response:
    """Metrics in the Prometheus text format."""
    return Response(service.telemetry.exposition(), media_type=CONTENT_TYPE_LATEST)
