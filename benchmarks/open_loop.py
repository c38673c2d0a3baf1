"""Open-loop load: requests are sent when they are due, whatever the server does, as those of real users are.

A closed loop waits for answers, so a stalled server gets fewer requests, and the stall is counted once (coordinated omission).
Here latency counts from the moment a request was *due*, so it includes waiting for a free connection. The latency from the
moment of sending is reported too.

``open_loop.c`` sends the requests; a loop in Python takes 50 µs for each and would be late by itself.
"""

from __future__ import annotations

import resource
import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Arrivals = Literal["fixed", "poisson"]

PAUSE_MS = 20.0
DRAIN_S = 10.0
SOURCE = Path(__file__).with_suffix(".c")
BUILD = Path(__file__).parents[1] / "build"


def due_times(rate: float, seconds: float, arrivals: Arrivals, seed: int) -> NDArray[np.float64]:
    """Return the times at which requests are due, in seconds from the start.

    Args:
        rate: requests per second.
        seconds: how long requests are sent.
        arrivals: ``fixed`` intervals, or ``poisson`` for independent users.
        seed: of the intervals.

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


def build() -> Path:
    """Compile ``open_loop.c`` unless its program is newer; return the program.

    Raises:
        SystemExit: there is no C compiler.
    """
    program = BUILD / SOURCE.stem
    if not program.exists() or program.stat().st_mtime < SOURCE.stat().st_mtime:
        if shutil.which("cc") is None:
            raise SystemExit("the open loop needs a C compiler; on Debian: apt-get install gcc")
        BUILD.mkdir(exist_ok=True)
        subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-o", program, SOURCE, "-lm"], check=True)
    return program


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
    """Send requests when they are due; return the summary of their latencies and the processor time of the generator."""
    requests = [request_bytes(port, path, body) for body in bodies]
    due = due_times(rate, seconds, arrivals, seed)
    with TemporaryDirectory(prefix="ctrserve-open-loop-") as name:
        folder = Path(name)
        (folder / "requests").write_bytes(b"".join(struct.pack("=I", len(r)) + r for r in requests))
        due.tofile(folder / "due")
        files = [folder / part for part in ("requests", "due", "found")]
        spent = _seconds_of_children()
        subprocess.run([build(), str(port), str(connections), *files, str(DRAIN_S)], check=True)
        spent = _seconds_of_children() - spent
        found = np.fromfile(folder / "found").reshape(-1, 3)
    sent, done = np.where(found[:, :2] < 0, np.nan, found[:, :2]).T
    offered = {"arrivals": arrivals, "offered_rps": round(rate, 1), "connections": connections, "seed": seed}
    cost = {"generator_us_per_request": round(1e6 * spent / len(due), 2)}
    return {**offered, **summarise(due, sent, done, found[:, 2].astype(np.int64)), **cost}


def _seconds_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def summarise(
    due: NDArray[np.float64], sent: NDArray[np.float64], done: NDArray[np.float64], status: NDArray[np.int64]
) -> dict[str, Any]:
    """Return latencies in milliseconds from due and from sent, errors, and pauses.

    A pause is an interval longer than `PAUSE_MS` without any answer while a request was due.

    Args:
        due: seconds, ascending.
        sent: seconds, NaN for requests that were not sent before the end.
        done: seconds, NaN for requests without an answer before the end.
        status: of the answer; 0 if the server closed the connection.
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
    # A gap lasts from the last answer, or the first request that is open then if it is later, to the next answer.
    order = np.argsort(done)
    opened_after = np.minimum.accumulate(due[order][::-1])[::-1][: len(ends)]  # earliest due time of later answers
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
