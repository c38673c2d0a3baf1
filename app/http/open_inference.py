"""Routes of the Open Inference Protocol, version 2 over REST: what KServe, Triton's client and others speak.

Answers are those of ``/predict`` to the bit, by the same admission, deadlines and batches.
"""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from app.http.endpoint import Endpoint, Score, ScoredRequest
from app.http.guarded_routes import PUBLIC, requires
from app.http.routes import ServiceDep
from app.http.service import Service
from app.problems import Problem
from app.scoring.served_model import ServedModel
from app.wire.field_types import wire_fields
from app.wire.open_inference import OUTPUT, describe_inputs, infer_answer, read_infer

router = APIRouter(prefix="/v2", include_in_schema=False)  # the protocol has a document of its own
PREDICT = requires("predict")
JSON_BYTES = b"inference-header-content-length"
"""The header of the binary tensor data extension."""
MAX_DIGITS = 18


@dataclass(frozen=True)
class InferenceEndpoint:
    """What scores requests of the protocol.

    Args:
        endpoint: without keys, for which the routes ask.
        predict: scores bodies of ``/predict``.
    """

    endpoint: Endpoint
    predict: Score


class Live(BaseModel):
    """The process answers."""

    live: bool = True


class Ready(BaseModel):
    """A model is served."""

    ready: bool = True


class ServerMetadata(BaseModel):
    """What answers."""

    name: str
    version: str
    extensions: list[str] = ["binary_tensor_data"]


class TensorMetadata(BaseModel):
    """A tensor; -1 stands for any size."""

    name: str
    datatype: str
    shape: list[int]


class ModelReady(BaseModel):
    """A model can be asked."""

    name: str
    ready: bool = True


class ModelMetadata(BaseModel):
    """The inputs and outputs of the model."""

    name: str
    versions: list[str]
    platform: str = "ctrserve"
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


@router.get("/health/live", dependencies=[PUBLIC])
async def live() -> Live:
    """Whether the process answers."""
    return Live()


@router.get("/health/ready", dependencies=[PUBLIC])
async def ready(service: ServiceDep) -> Ready:
    """Whether requests can be answered."""
    _ready_model(service)
    return Ready()


@router.get("", dependencies=[PREDICT])
async def server_metadata(request: Request) -> ServerMetadata:
    """Name and version of the service."""
    return ServerMetadata(name=request.app.title, version=request.app.version)


@router.get("/models/{name}/ready", dependencies=[PREDICT])
@router.get("/models/{name}/versions/{version}/ready", dependencies=[PREDICT])
async def model_ready(service: ServiceDep, name: str, version: str | None = None) -> ModelReady:
    """Whether the model, or a version of it, is served."""
    _ready_model(service)
    _model(service, name, version)
    return ModelReady(name=name)


@router.get("/models/{name}", dependencies=[PREDICT])
@router.get("/models/{name}/versions/{version}", dependencies=[PREDICT])
async def model_metadata(service: ServiceDep, name: str, version: str | None = None) -> ModelMetadata:
    """The inputs, one for each field, and the output."""
    model = _model(service, name, version)
    return ModelMetadata(
        name=name,
        versions=[model.version],
        inputs=[TensorMetadata(**tensor) for tensor in describe_inputs(wire_fields(model.artifact.schema))],
        outputs=[TensorMetadata(name=OUTPUT, datatype="FP64", shape=[-1])],
    )


@router.post("/models/{name}/infer", dependencies=[PREDICT])
@router.post("/models/{name}/versions/{version}/infer", dependencies=[PREDICT])
async def infer(request: Request, service: ServiceDep, name: str, version: str | None = None) -> Response:
    """Score rows given as tensors."""
    _model(service, name, version)
    inference: InferenceEndpoint = request.app.state.inference
    scored = ScoredRequest(request.scope)
    json_bytes = scored.headers.get(JSON_BYTES)
    if json_bytes is None:
        scored.headers.setdefault(b"content-type", b"application/json")  # Triton's client sends none
    else:
        scored.headers[b"content-type"] = b"application/json"  # whatever follows the JSON

    async def score(body: bytes, deadline: float) -> bytes:
        model = _model(service, name, version)
        fields = {field.name: field for field in wire_fields(model.artifact.schema)}
        given = read_infer(body, fields, _length(json_bytes, len(body)))
        answer = infer_answer(await inference.predict(given.body, deadline), given, name)
        if version is not None:  # another model may have come meanwhile
            _model(service, name, version)
        return answer

    return Response(await inference.endpoint.answer(scored, request.receive, score), media_type="application/json")


def _length(given: bytes | None, num_bytes: int) -> int | None:
    """Return the length of a body's JSON, where binary tensors follow it.

    Raises:
        Problem: ``invalid_input``.
    """
    if given is None:
        return None
    if not given.isdigit() or len(given) > MAX_DIGITS or int(given) > num_bytes:
        raise Problem("invalid_input", "Inference-Header-Content-Length is not the length of the JSON")
    return int(given)


def _ready_model(service: Service) -> ServedModel:
    if service.is_draining:
        raise Problem("draining")
    return service.model()


def _model(service: Service, name: str, version: str | None) -> ServedModel:
    """Return the model that is served, if it is the one that is asked for.

    Raises:
        Problem: ``not_found``; ``no_model``.
    """
    if name != service.settings.model_name:
        raise Problem("not_found", "no model has this name")
    model = service.model()
    if version not in (None, model.version):
        raise Problem("not_found", "this version is not served")
    return model
