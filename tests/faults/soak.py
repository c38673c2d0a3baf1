"""Hours in minutes: load without a pause while faults take turns; what the process holds must not grow."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np

from models.artifact.current import set_current
from tests.clients import HALVES, open_with
from tests.faults.matrix import JSON, Arena
from tests.redis_server import RedisServer
from tests.server import Server

MOST_KEPT = 4
"""Descriptors by which the second half may exceed the first: connections of the moment, not a leak by each of hundreds of turns."""


def soak(arena: Arena, seconds: float) -> int:
    """Run for a while; print a line a minute and the slopes; return 0 when nothing was wrong and nothing grew.

    Descriptors and connections come and go with the faults, so the most of them in the second half is held against the
    most in the first.
    """
    samples: list[tuple[float, float, int, int]] = []
    with arena.serve_with_redis() as (server, redis), arena.load(server, 200, num_threads=4) as load:
        started = time.monotonic()
        turns = itertools.cycle(faults(arena, server, redis))
        said = 0.0
        while (now := time.monotonic() - started) < seconds:
            next(turns)()
            samples.append((now, *held(server.process.pid)))
            if now - said >= 60:
                said = now
                _, rss, fds, connections = samples[-1]
                print(
                    f"{now / 60:5.1f} min  {rss:7.1f} MiB  {fds} descriptors  {connections} connections  {load.tally.sent:,} sent",
                    flush=True,
                )
    # The first quarter is the time in which caches fill.
    settled = np.array([s for s in samples if s[0] > seconds / 4])
    slope = float(np.polyfit(settled[:, 0] / 60, settled[:, 1], 1)[0])
    grown = settled[:, 2:].max(axis=0) - settled[0, 2:]
    half = len(settled) // 2
    kept = settled[half:, 2:].max(axis=0) - settled[:half, 2:].max(axis=0)
    t = load.tally
    print(
        f"{seconds / 60:.0f} min: {t.sent:,} requests, {t.errors} errors, {t.wrong} wrong answers, worst {t.worst_s * 1000:.0f} ms; "
        f"memory {settled[0, 1]:.1f} → {settled[-1, 1]:.1f} MiB ({slope:+.3f} MiB a minute), "
        f"descriptors at most +{grown[0]:.0f}, connections at most +{grown[1]:.0f}, "
        f"in the second half {kept[0]:+.0f} and {kept[1]:+.0f}"
    )
    return int(t.errors > 0 or t.wrong > 0 or slope > 1.0 or kept.max() > MOST_KEPT)


def held(pid: int) -> tuple[float, int, int]:
    """Return what a process holds: resident MiB, descriptors, sockets."""
    status = Path(f"/proc/{pid}/status").read_text()
    rss = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024
    targets = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            targets.append(str(link.readlink()))
        except OSError:  # closed meanwhile
            continue
    return rss, len(targets), sum(t.startswith("socket") for t in targets)


def faults(arena: Arena, server: Server, redis: RedisServer) -> list[Callable[[], None]]:
    """Return the faults that take turns, each with its end."""
    url = str(server.client.base_url)

    def pause(cause: Callable[[], None], cure: Callable[[], None]) -> Callable[[], None]:
        def turn() -> None:
            cause()
            time.sleep(0.5)
            cure()
            time.sleep(1.5)

        return turn

    def swap(version: str) -> None:
        set_current(arena.artifacts, version)
        time.sleep(0.5)

    def flush() -> None:
        with redis.client() as client:
            client.flushall()

    def rubbish() -> None:
        for body in (b"{", b"\xff" * 1000, b'{"instances": [{"price": NaN}]}', b"[" * 10_000):
            assert httpx.post(f"{url}/predict", content=body, headers=JSON, timeout=10).status_code == 422

    def half() -> None:
        for sent in HALVES:
            with open_with(server, sent):
                pass

    return [
        pause(redis.kill, redis.start),
        lambda: swap("v2"),
        pause(redis.freeze, redis.thaw),
        rubbish,
        lambda: swap("v3"),
        flush,
        half,
        lambda: swap("v1"),
        lambda: time.sleep(1),
    ]
