"""Clients that do not behave, and the processes of a service."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from app.http.guarded_protocol import REQUEST_S
from tests.server import Server

HALVES = [
    b"",
    b"POST /pre",
    b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-",
    b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
    b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
]
"""Requests that end too soon."""


IMPATIENT_S = 4.0
"""Seconds that `IMPATIENT` gives a request to come."""
IMPATIENT = (
    sys.executable,
    "-c",
    f"from app.http import guarded_protocol as p; p.REQUEST_S = {IMPATIENT_S}; from app.__main__ import main; main([])",
)
"""Starts the service with a shorter time limit."""


def open_with(server: Server, sent: bytes) -> socket.socket:
    connection = socket.create_connection(
        (server.client.base_url.host, server.client.base_url.port or 0), timeout=REQUEST_S + 5
    )
    connection.sendall(sent)
    return connection


def children(server: Server) -> list[int]:
    listing = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    names = {int(pid): Path(f"/proc/{pid}/cmdline").read_text() for pid in listing.split()}
    return [pid for pid, line in names.items() if "spawn_main" in line]
