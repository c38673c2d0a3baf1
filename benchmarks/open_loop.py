"""Open-loop load: requests leave when they are due, whatever the server does, as those of real users do.

A closed loop waits for answers, so a stalled server is asked less while it stalls, and the stall is counted once
(coordinated omission). Here each latency counts from the moment a request was *due*: one that had to wait for a free
connection behind a stall has that wait in it. Both are reported, from due and from sent.
"""

from __future__ import annotations

import ctypes
import gc
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Arrivals = Literal["fixed", "poisson"]

PAUSE_MS = 20.0
DRAIN_S = 10.0
PR_SET_TIMERSLACK = 29


def due_times(rate: float, seconds: float, arrivals: Arrivals, seed: int) -> NDArray[np.float64]:
    """Return when each request is due, seconds from the start.

    Args:
        rate: requests per second.
        seconds: how long requests are sent.
        arrivals: ``fixed`` distances, or ``poisson``: independent users.
        seed: of the distances.

    >>> due_times(4, 1, "fixed", 0).tolist()
    [0.0, 0.25, 0.5, 0.75]
    """
    n = int(rate * seconds)
    if arrivals == "fixed":
        return np.arange(n) / rate
    return np.cumsum(np.random.default_rng(seed).exponential(1 / rate, n))


def request_bytes(port: int, path: str, body: bytes) -> bytes:
    """Return an HTTP/1.1 request."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def status_of(received: bytes | bytearray) -> int | None:
    """Return the status of an answer once it is whole, ``None`` before.

    >>> status_of(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\n{")
    >>> status_of(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\n{}")
    200
    >>> status_of(b"HTTP/1.1 503 x\\r\\ntransfer-encoding: chunked\\r\\n\\r\\n0\\r\\n\\r\\n")
    503
    """
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = bytes(received[:end]).lower()
    at = head.find(b"content-length:")
    if at >= 0:
        length = int(head[at + 15 :].split(b"\r\n", 1)[0])
        whole = len(received) >= end + 4 + length
    else:
        whole = received.endswith(b"0\r\n\r\n")
    return int(head[9:12]) if whole else None


class _Connection:
    """One keep-alive connection; carries one request at a time."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.received = bytearray()
        self.request = -1
        self.socket = self._connect()

    def _connect(self) -> socket.socket:
        opened = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return opened

    def fileno(self) -> int:
        return self.socket.fileno()

    def send(self, request: int, data: bytes) -> None:
        self.request = request
        self.received.clear()
        self.socket.sendall(data)

    def receive(self) -> int | None:
        """Return the status of a whole answer, 0 when the server hung up, ``None`` when more is to come."""
        try:
            got = self.socket.recv(1 << 16)
        except OSError:
            got = b""
        if not got:
            self.socket.close()
            self.socket = self._connect()
            return 0
        self.received += got
        return status_of(self.received)


def run(
    port: int,
    path: str,
    bodies: Sequence[bytes],
    *,
    rate: float,
    seconds: float,
    connections: int,
    arrivals: Arrivals,
    seed: int,
) -> dict[str, Any]:
    """Send requests when they are due; return what `summarise` makes of their latencies."""
    if sys.platform == "linux":  # wake within microseconds, not the usual fifty
        ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
    requests = [request_bytes(port, path, body) for body in bodies]
    due = due_times(rate, seconds, arrivals, seed)
    n = len(due)
    sent, done = np.full(n, np.nan), np.full(n, np.nan)
    status = np.zeros(n, np.int64)
    due_list = due.tolist()
    everyone = [_Connection(port) for _ in range(connections)]
    idle = deque(everyone)  # the one that rested longest goes first, so that none is idle until the server closes it
    busy: dict[int, _Connection] = {}
    gc.collect()
    gc.disable()
    try:
        at, clock = 0, time.perf_counter
        waiting: deque[int] = deque()
        start = clock() + 0.05
        end = due_list[-1] + DRAIN_S
        while (at < n or busy or waiting) and (now := clock() - start) < end:
            while at < n and due_list[at] <= now:
                waiting.append(at)
                at += 1
            while waiting and idle:
                request, connection = waiting.popleft(), idle.popleft()
                sent[request] = clock() - start
                connection.send(request, requests[request % len(requests)])
                busy[connection.fileno()] = connection
            pause = max(due_list[at] - (clock() - start), 0.0) if at < n else 0.1
            ready, _, _ = select.select(list(busy), (), (), pause)
            for fd in ready:
                connection = busy[fd]
                found = connection.receive()
                if found is not None:
                    done[connection.request] = clock() - start
                    status[connection.request] = found
                    del busy[fd]
                    idle.append(connection)
    finally:
        gc.enable()
        for connection in everyone:
            connection.socket.close()
    offered = {"arrivals": arrivals, "offered_rps": round(rate, 1), "connections": connections, "seed": seed}
    return {**offered, **summarise(due, sent, done, status)}


def summarise(
    due: NDArray[np.float64], sent: NDArray[np.float64], done: NDArray[np.float64], status: NDArray[np.int64]
) -> dict[str, Any]:
    """Return latencies in milliseconds from due and from sent, errors, and pauses.

    A pause is a stretch without any answer, longer than `PAUSE_MS`, in which a request that was due had none.

    Args:
        due: seconds, ascending.
        sent: seconds, NaN where it was not sent before the end.
        done: seconds, NaN where there was no answer before the end.
        status: of the answer; 0 where the server hung up.
    """
    is_answered = np.isfinite(done)
    good = is_answered & (status == 200)
    kinds = np.where(is_answered, np.where(status == 0, "hung up", status.astype(str)), "no answer")[~good]
    errors = {str(kind): int((kinds == kind).sum()) for kind in np.unique(kinds)}
    counts = {"requests": len(due), "errors": len(kinds), "errors_by_kind": errors}
    if not good.any():
        return {**counts, "achieved_rps": 0.0}
    latency, service = (done - due)[good] * 1e3, (done - sent)[good] * 1e3
    ends = np.sort(done[is_answered])
    # From the later of the last answer and the first request still open then, to the next answer.
    order = np.argsort(done)
    opened_after = np.minimum.accumulate(due[order][::-1])[::-1][: len(ends)]  # earliest due of what is answered later
    began = np.maximum(np.concatenate(([due[0]], ends[:-1])), opened_after)
    gaps_ms = (ends - began) * 1e3
    pauses = gaps_ms[gaps_ms > PAUSE_MS]
    late = np.sort((sent - due)[np.isfinite(sent)]) * 1e3
    whole_seconds = np.floor(due[good]).astype(np.int64)
    by_second = [latency[whole_seconds == s] for s in range(int(due[-1]) + 1)]
    return {
        "seconds": round(float(due[-1]), 3),
        **counts,
        "achieved_rps": round(float(good.sum() / (ends[-1] - due[0])), 1),
        "from_due": _percentiles(latency),
        "from_sent": _percentiles(service),
        "sent_late_p99_ms": round(float(np.quantile(late, 0.99)), 3),
        "pauses": {"longer_than_ms": PAUSE_MS, "count": len(pauses), "longest_ms": round(float(gaps_ms.max()), 3)},
        "per_second_p99_ms": [round(float(np.quantile(x, 0.99)), 3) if len(x) else None for x in by_second],
    }


def _percentiles(milliseconds: NDArray[np.float64]) -> dict[str, float]:
    found = np.quantile(milliseconds, [0.5, 0.9, 0.99, 0.999])
    named = zip(("p50_ms", "p90_ms", "p99_ms", "p99.9_ms"), found.tolist(), strict=True)
    return {name: round(value, 3) for name, value in named} | {"max_ms": round(float(milliseconds.max()), 3)}
