"""A service with a Redis that something happens to."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.app.embeddings.proxy import Proxy, open_proxy
from tests.faults.matrix import BUDGET_MS, Arena
from tests.faults.watching import until
from tests.redis_server import RedisServer, running_redis
from tests.server import Server

LATE_S = 4.0
"""Beyond this even a loaded machine has not been waiting for Redis, but for a driver's own time-outs."""
SLACK_S = 0.03
MAX_OVERDUE = 2
"""Answers that may take longer than Redis's budget and some slack: a machine with other work stops one now and then. Were
the budget not kept, at least those five would be late that it takes to open the breaker."""


def redis_state(server: Server) -> str:
    return str(server.client.get("/health/ready").json()["redis"])


def lookups(server: Server, outcome: str) -> float:
    return server.metric("ctr_redis_lookups_total", outcome=outcome)


def fill(arena: Arena, server: Server) -> None:
    """Ask until rows come from Redis."""

    def hits() -> bool:
        before = lookups(server, "hit")
        for i in range(len(arena.bodies)):
            arena.ask(server, i)
        return lookups(server, "hit") > before

    until(lambda: redis_state(server) == "ok", "Redis is there")
    until(hits, "rows come from Redis")


def during(arena: Arena, server: Server, cause: Callable[[], object], seconds: float = 1.0) -> float:
    """Load before, while and after something happens; return the longest that an answer took once it was asked for."""
    with arena.load(server) as load:
        time.sleep(0.2)
        cause()
        time.sleep(seconds * min(3, arena.scale))
    waits_s = [t for t, _ in load.waits_s]
    assert max(t for _, t, _ in load.times_s) < LATE_S
    assert sum(t > BUDGET_MS / 1000 + SLACK_S for t in waits_s) <= MAX_OVERDUE
    return max(waits_s)


@contextmanager
def proxied(arena: Arena) -> Iterator[tuple[Server, RedisServer, Proxy]]:
    """A service that reaches Redis only through a proxy."""
    with running_redis(arena.directory / "redis") as redis:
        ready, over = threading.Event(), asyncio.Event()
        found: list[tuple[Proxy, str, asyncio.AbstractEventLoop]] = []

        async def keep_open() -> None:
            async with open_proxy(redis.url, arena.directory) as (proxy, url):
                found.append((proxy, url, asyncio.get_running_loop()))
                ready.set()
                await over.wait()

        thread = threading.Thread(target=asyncio.run, args=(keep_open(),), daemon=True)
        thread.start()
        assert ready.wait(10)
        proxy, url, loop = found[0]
        try:
            with arena.serve(redis_url=url, redis_timeout_ms=BUDGET_MS, hot_bytes=0) as server:
                fill(arena, server)
                yield server, redis, proxy
        finally:
            loop.call_soon_threadsafe(over.set)
            thread.join(10)
