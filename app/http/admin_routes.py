"""Routes for administrators; there are none of them without a key file."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel

from app.http.api_keys import refuse_browsers
from app.http.guarded_routes import requires
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


@router.post("/rollback")
async def rollback(request: Request, service: ServiceDep) -> Served:
    """Serve what was served before, at once, until ``artifacts/current`` names another version or on ``/admin/reload``."""
    refuse_browsers(dict(request.scope["headers"]))
    try:
        await service.registry.roll_back()
    except ArtifactError as error:
        raise Problem(
            "artifact_refused", f"{error.reason}: 'current' cannot be read, so nothing can hold against it"
        ) from None
    return _served(service)


def _served(service: Service) -> Served:
    previous = service.registry.previous
    return Served(model_version=service.model().version, previous=None if previous is None else previous.version)
