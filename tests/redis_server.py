"""A real Redis or Valkey for tests, started as the demo starts it, that can be stopped, killed, frozen and started again."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from redis import Redis

from app.demo.embedded_redis import EmbeddedRedis, open_embedded_redis

REDIS = shutil.which("redis-server")

# For pytest.mark.parametrize: the packaged Valkey, and Redis where it is installed.
BINARIES = [
    pytest.param(None, id="valkey"),
    pytest.param(
        REDIS and Path(REDIS), id="redis", marks=pytest.mark.skipif(REDIS is None, reason="redis-server not installed")
    ),
]


class RedisServer:
    """A server on a unix socket; the socket's path, and so the url, stays the same over restarts."""

    def __init__(self, directory: Path, binary: Path | None = None, arguments: Sequence[str] = ()) -> None:
        self.directory = directory
        self.binary = binary
        self.arguments = arguments
        self.url = f"unix://{directory.resolve()}/redis.sock"
        self._running: EmbeddedRedis | None = None
        self._stack = ExitStack()

    def start(self) -> None:
        self._running = self._stack.enter_context(
            open_embedded_redis(self.directory, binary=self.binary, arguments=self.arguments)
        )
        assert self._running.url == self.url

    def stop(self) -> None:
        """Stop by SIGTERM."""
        self._stack.close()
        self._running = None

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        self.stop()

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    @contextmanager
    def client(self) -> Iterator[Redis]:
        with Redis.from_url(self.url, socket_timeout=10, protocol=2) as client:
            yield client

    @property
    def log(self) -> str:
        return (self.directory / "redis.log").read_text(errors="replace")

    def _signal(self, number: signal.Signals) -> None:
        assert self._running is not None
        self._running.process.send_signal(number)


@contextmanager
def running_redis(directory: Path, binary: Path | None = None, arguments: Sequence[str] = ()) -> Iterator[RedisServer]:
    """Start a server; it is gone at the end, whatever state the test left it in."""
    server = RedisServer(directory, binary, arguments)
    server.start()
    try:
        yield server
    except BaseException as error:
        error.add_note(server.log)
        raise
    finally:
        if server._running is not None:
            server.kill()
