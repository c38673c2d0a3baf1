"""The server that a test runs against: the packaged Valkey, and Redis where it is installed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.redis_server import BINARIES, RedisServer, running_redis

PROBE_S = 0.05
"""Until the first probe, in place of half a second."""


@pytest.fixture
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses before a probe and between lines of the log."""
    monkeypatch.setattr("app.embeddings.redis_rows.DOUBT_S", PROBE_S)
    monkeypatch.setattr("app.embeddings.breaker.FIRST_PROBE_S", PROBE_S)
    monkeypatch.setattr("app.embeddings.state_log.EVERY_S", 2 * PROBE_S)


@pytest.fixture(params=BINARIES)
def binary(request: pytest.FixtureRequest) -> Path | None:
    path: Path | None = request.param
    return path


@pytest.fixture
def server(tmp_path: Path, binary: Path | None) -> Iterator[RedisServer]:
    with running_redis(tmp_path, binary) as server:
        yield server
