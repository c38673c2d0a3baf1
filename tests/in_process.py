"""An ASGI app in the tests' own process, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from app.main import create_app
from app.settings import Settings

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


async def ask(app: Any, body: bytes, path: str = "/predict", method: str = "POST") -> tuple[int, bytes]:
    """Send a request; return the status and the body of its answer."""
    answer: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        answer.append(message)

    await app({"type": "http", "method": method, "path": path, "headers": HEADERS, "state": {}}, receive, send)
    return answer[0]["status"], answer[1]["body"]


async def answers(artifacts: Path, bodies: Sequence[bytes]) -> list[bytes]:
    """Return the answers of a new app to `/predict` requests."""
    app = create_app(Settings(artifacts=artifacts, drain_s=0))
    async with running(app):
        return [(await ask(app, body))[1] for body in bodies]
