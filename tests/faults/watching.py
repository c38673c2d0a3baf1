"""What faults are watched with."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.server import Server


def until(done: Callable[[], bool], what: str, seconds: float = 30.0) -> float:
    """Wait; return the seconds it took."""
    started = time.monotonic()
    while not done():
        assert time.monotonic() - started < seconds, what
        time.sleep(0.005)
    return time.monotonic() - started


def version_of(server: Server) -> str:
    return str(server.client.get("/model").json()["model_version"])


def last_error(server: Server) -> dict[str, str]:
    return server.client.get("/model").json()["last_error"] or {}
