"""Ordinary FastAPI routes: health, model, metrics; and the OpenAPI of ``/predict``, which `app.hot_path` answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from app.errors import MEDIA_TYPE, Problem
from app.registry import Registry, Snapshot
from app.settings import Settings
from app.telemetry import Telemetry

router = APIRouter()


class Service:
    """What the routes need; one a process, in ``app.state.service``."""

    def __init__(self, settings: Settings, telemetry: Telemetry, registry: Registry, redis_state: Any) -> None:
        self.settings = settings
        self.telemetry = telemetry
        self.registry = registry
        self.redis_state = redis_state

    def snapshot(self) -> Snapshot:
        """Return the current model.

        Raises:
            Problem: ``no_model``.
        """
        snapshot = self.registry.current
        if snapshot is None:
            raise Problem("no_model", headers={"Retry-After": "1"})
        return snapshot


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


@router.post("/predict", include_in_schema=False)
async def predict() -> None:
    """Stand for the path, so that other methods on it are answered 405; `app.hot_path` answers this one."""
    raise Problem("internal_error")


@router.get("/health/live", tags=["health"])
async def live() -> Live:
    """Whether the process answers."""
    return Live()


@router.get(
    "/health/ready", tags=["health"], responses={503: {"content": {MEDIA_TYPE: {}}, "description": "No model yet"}}
)
async def ready(service: ServiceDep) -> Ready:
    """Whether requests can be answered."""
    return Ready(model_version=service.snapshot().artifact.model_version, redis=service.redis_state())


@router.get("/model", tags=["model"])
async def model(service: ServiceDep) -> ModelInfo:
    """Describe the model that is served: fields, metrics, versions, and the last artifact refused."""
    registry = service.registry
    if registry.current is None:
        return ModelInfo(last_error=registry.last_error)
    artifact = registry.current.artifact
    manifest, schema = artifact.manifest, artifact.schema
    fields = [
        FieldInfo(name=f.name, kind=f.kind, side=f.side, dtype=fit.dtype, num_tokens=schema.num_tokens[f.block])
        for f, fit in zip(schema.features.fields, schema.fitted, strict=True)
    ]
    return ModelInfo(
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


@router.get("/metrics", tags=["health"], response_class=Response)
async def metrics(service: ServiceDep) -> Response:
    """Metrics in the Prometheus text format."""
    return Response(service.telemetry.exposition(), media_type=CONTENT_TYPE_LATEST)


def describe_openapi(app: FastAPI, document: dict[str, Any]) -> dict[str, Any]:
    """Add ``/predict``, with the current model's own field names, types and example, to an OpenAPI document."""
    service = cast(Service | None, getattr(app.state, "service", None))
    snapshot = service.registry.current if service else None
    schema: dict[str, Any] = {"type": "object"}
    example: dict[str, Any] = {}
    if snapshot is not None:
        schema = snapshot.wire.json_schema()
        document.setdefault("components", {}).setdefault("schemas", {}).update(schema.pop("$defs", {}))
        example = {"instances": [snapshot.wire.example]}
    problem = {
        "type": "object",
        "required": ["type", "title", "status", "code"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "code": {"type": "string"},
            "detail": {"type": "string"},
            "errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "message": {"type": "string"},
                        "row": {"type": "integer"},
                        "field": {"type": "string"},
                    },
                },
            },
        },
    }
    counts = {"type": "object", "additionalProperties": {"type": "integer"}}
    answer = {
        "type": "object",
        "required": ["predictions", "model_version"],
        "properties": {
            "predictions": {
                "type": "array",
                "items": {"type": "number"},
                "description": "Calibrated click probability of each row",
            },
            "model_version": {"type": "string"},
            "missing": {**counts, "description": "Rows without a value, by field"},
            "unseen": {**counts, "description": "Values never seen in training, by field"},
            "unknown_fields": {**counts, "description": "Rows that carry a field the model does not have"},
        },
    }
    problems = {
        status: {"description": text, "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
        for status, text in (
            ("413", "Body too large"),
            ("415", "Not JSON"),
            ("422", "Does not fit the schema"),
            ("503", "No model yet"),
        )
    }
    document.setdefault("components", {}).setdefault("schemas", {}).update(
        {"Problem": problem, "PredictResponse": answer}
    )
    predict_path = {
        "post": {
            "tags": ["predict"],
            "summary": "Click probabilities of one or more impressions",
            "description": "Give rows as `instances` or columns as `inputs`. An absent or null field is *missing*, a value that training "
            "never saw is *unseen*: both have trained weights, and the answer counts them by field.",
            "operationId": "predict",
            "requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}},
            "responses": {
                "200": {
                    "description": "One probability per row",
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/PredictResponse"}}},
                },
                **problems,
            },
        }
    }
    document["paths"] = {"/predict": predict_path, **document["paths"]}
    return document
