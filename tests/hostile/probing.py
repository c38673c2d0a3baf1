"""How a hostile request is sent to a real server, and what must hold after it."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

import httpx

from tests.hostile.corpus import GOOD, MARKER
from tests.server import Server

MAX_ANSWER_BYTES = 8_192
LIVE_S = 0.5
"""The promise is 0.1 s on a machine of one's own, and C16 of the fault matrix measures it; tests share theirs."""
SCORED_S = 3.0
METHODS = {"/predict": "POST", "/rank": "POST", "/explain": "POST", "/catalog": "PUT"}


def send(server: Server, path: str, text: bytes, headers: dict[str, str]) -> httpx.Response:
    """Send one body."""
    return server.client.request(METHODS[path], path, content=text, headers=headers)


def check_refusal(response: httpx.Response, status: int, name: str) -> None:
    """Assert that an answer has the status and, unless it is a success, the one shape of a refusal without the input."""
    assert response.status_code == status, f"{name}: {response.status_code} {response.text[:500]}"
    assert MARKER not in response.text, name
    assert not any(MARKER in value for value in response.headers.values()), name
    assert len(response.content) <= MAX_ANSWER_BYTES, name
    if status >= 400:
        assert response.headers["content-type"] == "application/problem+json", name
        body = json.loads(response.content)
        assert body["status"] == status, name
        assert set(body) <= {"type", "title", "status", "code", "request_id", "detail", "errors"}, name
        assert len(body.get("errors", [])) <= 16, name


def check_alive(server: Server, name: str) -> None:
    """Assert that the same process still answers, and soon."""
    assert server.process.poll() is None, f"{name}: {server.log.read_text()}"
    started = time.perf_counter()
    assert server.client.get("/health/live").status_code == 200, name
    assert time.perf_counter() - started < LIVE_S, name


def check_good_requests(server: Server) -> None:
    """Assert that good requests are answered as ever."""
    for path, body in GOOD.items():
        response = send(server, path, body, {"content-type": "application/json"})
        assert response.status_code == 200, f"{path}: {response.text}"


def resident_mib(server: Server) -> float:
    """Return the memory that the process holds now."""
    return _status_mib(server, "VmRSS")


def peak_mib(server: Server) -> float:
    """Return the most memory that the process ever held."""
    return _status_mib(server, "VmHWM")


def _status_mib(server: Server, key: str) -> float:
    with open(f"/proc/{server.process.pid}/status", encoding="ascii") as status:  # noqa: PTH123
        line = next(line for line in status if line.startswith(f"{key}:"))
    return int(line.split()[1]) / 1024


@dataclass(frozen=True)
class RawAnswer:
    """What came back on a socket.

    Args:
        data: every byte until the server closed, or until nothing more came in time.
        is_closed: whether the server closed the connection.
    """

    data: bytes
    is_closed: bool

    @property
    def statuses(self) -> list[int]:
        """Status of each answer on the connection."""
        return [int(part[:3]) for part in self.data.split(b"HTTP/1.1 ")[1:]]


def send_raw(server: Server, pieces: Iterable[bytes], wait_s: float = 5.0, *, half_close: bool = False) -> RawAnswer:
    """Send bytes as they are, each piece a packet of its own; read until the server closes or ``wait_s`` is over.

    A server that closes while bytes are still on their way resets the connection; that counts as closed.
    """
    url = server.client.base_url
    received = bytearray()
    with socket.create_connection((url.host, url.port or 0), timeout=wait_s) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(ConnectionError):
            for piece in pieces:
                connection.sendall(piece)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
        try:
            while part := connection.recv(65_536):
                received += part
        except TimeoutError:
            return RawAnswer(bytes(received), is_closed=False)
        except ConnectionError:
            pass
    return RawAnswer(bytes(received), is_closed=True)
