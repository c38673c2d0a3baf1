"""Open-loop load: requests leave when they are due, whatever the server does, as those of real users do.

A closed loop waits for answers, so a stalled server is asked less while it stalls, and the stall is counted once
(coordinated omission). Here each latency counts from the moment a request was *due*: one that had to wait for a free
connection behind a stall has that wait in it. Both are reported, from due and from sent.

The requests are sent by ``open_loop.c``: a loop in Python took 50 µs for each, and was late when the server was not.
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
SHARED = SOURCE.with_name("common.h")
BUILD = Path(__file__).parents[1] / "build"


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


def build(source: Path = SOURCE) -> Path:
    """Compile a program of this directory where it is missing or older than its source; return it.

    Raises:
        SystemExit: there is no C compiler.
    """
    program = BUILD / source.stem
    changed = max(file.stat().st_mtime for file in (source, SHARED))
    if not program.exists() or program.stat().st_mtime < changed:
        if shutil.which("cc") is None:
            raise SystemExit("the open loop needs a C compiler; on Debian: apt-get install gcc")
        BUILD.mkdir(exist_ok=True)
        subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-o", program, source, "-lm"], check=True)
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
    """Send requests when they are due; return what `summarise` makes of their latencies, and what sending cost."""
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
