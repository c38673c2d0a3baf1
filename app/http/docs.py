"""The pages for people: ``/docs`` and the OpenAPI document, which is made once for each model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import cache
from importlib.resources import files

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from starlette.responses import HTMLResponse, RedirectResponse, StreamingResponse

from app.http.guarded_routes import PUBLIC, requires
from app.http.openapi import describe_model
from app.http.routes import ServiceDep
from app.problems import Problem

router = APIRouter(include_in_schema=False)

PIECE_BYTES = 65_536
"""Written at once: a client that does not read holds no more."""
MEDIA_TYPES = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}


@router.get("/", dependencies=[PUBLIC])
async def redirect_to_docs() -> RedirectResponse:
    """Send a person to the page."""
    return RedirectResponse("/docs")


@router.get("/docs", dependencies=[requires("predict")])
async def docs() -> HTMLResponse:
    """Return the page; its links are relative to the server, whatever the Host header says."""
    return get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="ctrserve",
        swagger_js_url="/swagger/swagger-ui-bundle.js",
        swagger_css_url="/swagger/swagger-ui.css",
        swagger_favicon_url="/swagger/favicon-32x32.png",
    )


@router.get("/openapi.json", dependencies=[requires("predict")])
async def openapi(request: Request, service: ServiceDep) -> Response:
    """Return the OpenAPI document, with the fields of the model that is served."""
    model = service.registry.current
    if service.document is None or service.document[0] is not model:
        app = request.app
        document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        service.document = (model, orjson.dumps(describe_model(document, model, has_keys=service.keys is not None)))
    return Response(service.document[1], media_type="application/json")


@router.get("/swagger/{name}", dependencies=[requires("predict")])
async def swagger_file(name: str) -> Response:
    """Return a file of the page, which works without a connection to the internet."""
    if name not in MEDIA_TYPES:
        raise Problem("not_found")
    return StreamingResponse(_pieces(_read(name)), media_type=MEDIA_TYPES[name])


@cache
def _read(name: str) -> bytes:
    return (files("fastapi_swagger.resources") / name).read_bytes()


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), PIECE_BYTES):
        yield content[start : start + PIECE_BYTES]
