"""Routes that declare who may call them: the key's scope belongs to the matched route, however its path is spelt."""

from __future__ import annotations

from typing import Annotated, Any, cast

from fastapi import Depends, Request, Security
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader, HTTPBearer, SecurityScopes
from starlette.routing import BaseRoute

from app.http.api_keys import KeyFile, KeyScope

HEADER = APIKeyHeader(name="X-API-Key", auto_error=False)
BEARER = HTTPBearer(auto_error=False)


async def authorize(
    request: Request,
    scopes: SecurityScopes,
    header: Annotated[object, Depends(HEADER)],
    bearer: Annotated[object, Depends(BEARER)],
) -> None:
    """Let a request in whose key allows the route's scope; without a key file, everybody.

    Raises:
        Problem: ``unauthorized``, ``forbidden`` or ``quota_exceeded``.
    """
    keys: KeyFile | None = request.app.state.service.keys
    if keys is not None:
        (scope,) = scopes.scopes
        key = keys.identify(dict(request.scope["headers"]))
        request.state.key = key.name
        keys.admit(key, cast(KeyScope, scope))


async def let_everybody_in() -> None:
    """Ask for no key: probes come from load balancers, which have none."""


def requires(scope: KeyScope) -> Any:
    """Return the declaration that a route asks for a key with a scope."""
    return Security(authorize, scopes=[scope])


PUBLIC = Depends(let_everybody_in)
"""The declaration that a route asks for no key."""


def check_declared(routes: list[BaseRoute]) -> None:
    """Refuse to serve routes of which one does not say, as its first dependency, who may call it.

    Raises:
        ValueError: naming the route.
    """
    for route in routes:
        declared = route.dependencies[0].dependency if isinstance(route, APIRoute) and route.dependencies else None
        if declared is not authorize and declared is not let_everybody_in:
            raise ValueError(f"{getattr(route, 'path', route)!r} does not declare who may call it")
