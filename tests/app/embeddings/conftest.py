"""The server that a test runs against: the packaged Valkey, and Redis where it is installed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.redis_server import BINARIES, RedisServer, running_redis


@pytest.fixture(params=BINARIES)
def binary(request: pytest.FixtureRequest) -> Path | None:
    path: Path | None = request.param
    return path


@pytest.fixture
def server(tmp_path: Path, binary: Path | None) -> Iterator[RedisServer]:
    with running_redis(tmp_path, binary) as server:
        yield server
