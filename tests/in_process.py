"""An ASGI app in the tests' own process, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

HEADERS = [(b"content-type", b"application/json"), (b"x-api-key", b"secret")]


@asynccontextmanager
async def running(app: Any) -> AsyncIterator[None]:
    """Start an app, and stop it at the end."""
    events: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    started = asyncio.Event()

    async def note_start(message: dict[str, str]) -> None:
        started.set()

    await events.put({"type": "lifespan.startup"})
    lifespan = asyncio.create_task(app({"type": "lifespan", "state": {}}, events.get, note_start))
    try:
        await asyncio.wait_for(started.wait(), 60)
        yield
    finally:
        await events.put({"type": "lifespan.shutdown"})
        await asyncio.wait_for(lifespan, 60)


async def ask(app: Any, body: bytes, path: str = "/predict", method: str = "POST") -> int:
    """Send a request; return the status of its answer."""
    answer: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        answer.append(message)

    await app({"type": "http", "method": method, "path": path, "headers": HEADERS, "state": {}}, receive, send)
    return int(answer[0]["status"])
