"""Routes for administrators; there are none of them without a key file."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, ValidationError

from app.http.api_keys import refuse_browsers
from app.http.guarded_routes import requires
from app.http.request_body import read_json_body
from app.http.routes import ServiceDep
from app.http.service import Service
from app.problems import Problem
from models.errors import ArtifactError

router = APIRouter(prefix="/admin", tags=["admin"], dependencies=[requires("admin")])


class Served(BaseModel):
    """What this worker serves now; the others follow within ``CTR_POLL_S``."""

    model_version: str
    previous: str | None
    """What was served before, and is kept for a rollback."""


@router.post("/reload")
async def reload(request: Request, service: ServiceDep) -> Served:
    """Look at ``artifacts/current`` now, at what was refused or rolled back from too."""
    refuse_browsers(dict(request.scope["headers"]))
    await service.registry.reload()
    if (error := service.registry.last_error) is not None:
        raise Problem("artifact_refused", f"{error['reason']}: the model before goes on")
    return _served(service)


class Target(BaseModel, extra="forbid"):
    """The version that is meant: the name of an artifact's directory."""

    version: Annotated[str, Field(min_length=1, max_length=64)]


BODY = {"requestBody": {"content": {"application/json": {"schema": Target.model_json_schema()}}}}
MAX_BODY_BYTES = 1_024


@router.post("/rollback", openapi_extra=BODY)
async def rollback(request: Request, service: ServiceDep) -> Served:
    """Serve another version at once, until ``artifacts/current`` names another one or on ``/admin/reload``.

    Without a body that is the version that was served before. A version that does not exist is 404, and nothing changes.
    """
    refuse_browsers(dict(request.scope["headers"]))
    has_body = "transfer-encoding" in request.headers or request.headers.get("content-length", "0") != "0"
    version = await _target(request, service) if has_body else None
    try:
        await service.registry.roll_back(version)
    except ArtifactError as error:
        raise Problem("artifact_refused", f"{error.reason}: the model before goes on") from None
    return _served(service)


@router.post("/promote", openapi_extra={"requestBody": BODY["requestBody"] | {"required": True}})
async def promote(request: Request, service: ServiceDep) -> Served:
    """Verify a version, make it the one that ``artifacts/current`` names, and serve it.

    A version that does not exist is 404, one that must not be served is 409; nothing changes then.
    """
    refuse_browsers(dict(request.scope["headers"]))
    version = await _target(request, service)
    try:
        await service.registry.promote(version)
    except ArtifactError as error:
        raise Problem("artifact_refused", f"{error.reason}: the model before goes on") from None
    return _served(service)


async def _target(request: Request, service: Service) -> str:
    headers = dict(request.scope["headers"])
    body = await read_json_body(headers, request.receive, MAX_BODY_BYTES, service.catalog_uploads)
    try:
        return Target.model_validate_json(body).version
    except ValidationError as error:
        raise Problem("invalid_input", 'expected {"version": NAME}') from error


def _served(service: Service) -> Served:
    previous = service.registry.previous
    return Served(model_version=service.model().version, previous=None if previous is None else previous.version)
