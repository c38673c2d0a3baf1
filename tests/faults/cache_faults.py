"""B: Redis gone, slow, frozen, lying. The right answers are those of a service that has none."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx

from tests.app.embeddings.proxy import Proxy, open_proxy
from tests.faults.matrix import BUDGET_MS, Arena, fault
from tests.faults.model_faults import until
from tests.redis_server import RedisServer, running_redis
from tests.server import Server

LATE_S = 4.0
"""Beyond this even a loaded machine has not been waiting for Redis, but for a driver's own time-outs."""


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


def during(arena: Arena, server: Server, cause: Callable[[], object], seconds: float = 1.0) -> None:
    """Load before, while and after something happens."""
    with arena.load(server) as load:
        time.sleep(0.3)
        cause()
        time.sleep(seconds * min(3, arena.scale))
    assert max(t for _, t, _ in load.times_s) < LATE_S


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


@fault("B1", "Redis is not there at the start", "ready at once; answers as without Redis")
def absent(arena: Arena) -> None:
    for url in (
        f"unix://{arena.directory}/nothing.sock",
        "redis://127.0.0.1:1/0",
        "redis://no-such-host.invalid:6379/0",
    ):
        with arena.serve(redis_url=url, redis_timeout_ms=BUDGET_MS, hot_bytes=0) as server:
            during(arena, server, lambda: None, 0.5)
            until(lambda server=server: redis_state(server) == "unavailable", url)  # type: ignore[misc]


@fault("B2", "Redis killed by SIGKILL under load", "no error, same bytes, the breaker opens; ready stays 200")
def killed(arena: Arena) -> None:
    with arena.serve_with_redis() as (server, redis):
        fill(arena, server)
        during(arena, server, redis.kill)
        assert redis_state(server) == "unavailable"
        assert server.metric("ctr_redis_breaker_open") == 1


@fault(
    "B3", "Redis comes back, empty", "the breaker closes, rows come from it again; at most 3 connections of a process"
)
def back(arena: Arena) -> None:
    with arena.serve_with_redis() as (server, redis):
        fill(arena, server)
        redis.kill()
        until(lambda: (arena.ask(server), redis_state(server))[1] == "unavailable", "noticed")
        with arena.load(server):
            redis.start()
            took = until(lambda: redis_state(server) == "ok", "closed")
            arena.tally.notes.append(f"closed after {took:.1f} s")
            with redis.client() as client:
                time.sleep(0.5)
                assert len(client.client_list()) <= 4
        fill(arena, server)


@fault(
    "B4",
    "Redis frozen by SIGSTOP under load, then going on",
    "no error, same bytes; no request waits beyond its budget",
)
def frozen(arena: Arena) -> None:
    with arena.serve_with_redis() as (server, redis):
        fill(arena, server)
        during(arena, server, redis.freeze)
        assert redis_state(server) == "unavailable"
        redis.thaw()
        until(lambda: redis_state(server) == "ok", "closed")
        fill(arena, server)


@fault("B5", "every reply 5, 20 or 200 ms late", "no error, same bytes")
def late(arena: Arena) -> None:
    with proxied(arena) as (server, _, proxy):
        for delay_ms in (5, 20, 200):
            during(arena, server, lambda d=delay_ms: setattr(proxy, "delay_s", d / 1000))  # type: ignore[misc]
        proxy.pass_all()
        fill(arena, server)


@fault(
    "B6", "replies cut, silenced, or replaced by garbage, wrong types and giant lengths", "misses; no error, same bytes"
)
def garbled(arena: Arena) -> None:
    with proxied(arena) as (server, _, proxy):
        for n, garbage in enumerate(
            (
                b"\x00\xff" * 50,
                b"+OK\r\n",
                b":7\r\n",
                b"$2147483647\r\n",
                b"*2147483647\r\n",
                b"*1\r\n$3\r\nabc\r\n",
                b"$-5\r\n",
                b"%7\r\n",
            )
        ):
            during(arena, server, lambda g=garbage: setattr(proxy, "garbage", g), 0.3)  # type: ignore[misc]
            proxy.pass_all()
            until(lambda: redis_state(server) == "ok", f"garbage {n}")
        for size in (0, 1, 100):
            during(arena, server, lambda s=size: setattr(proxy, "cut_after", s), 0.3)  # type: ignore[misc]
            proxy.pass_all()
            until(lambda: redis_state(server) == "ok", f"cut {size}")
        during(arena, server, lambda: setattr(proxy, "is_silent", True))
        proxy.pass_all()
        until(lambda: redis_state(server) == "ok", "silence")
        fill(arena, server)


@fault("B7", "FLUSHALL every 100 ms under load", "only misses; no error, same bytes")
def flushed(arena: Arena) -> None:
    with arena.serve_with_redis() as (server, redis), redis.client() as client:
        fill(arena, server)
        with arena.load(server):
            for _ in range(10 * arena.scale):
                client.flushall()
                time.sleep(0.1)


@fault("B8", "values with flipped bits, cut short, of other keys, of zeros", "counted as corrupt, never used")
def corrupt(arena: Arena) -> None:
    with arena.serve_with_redis() as (server, redis), redis.client() as client:
        fill(arena, server)
        keys = sorted(client.keys("ctr:*"))
        values = [v for key in keys if isinstance(v := client.get(key), bytes)]
        before = lookups(server, "corrupt")
        with arena.load(server):
            for n in range(6 * arena.scale):
                for i, key in enumerate(keys):
                    value = bytearray(values[i])
                    if n % 4 == 0:
                        value[(i + n) % len(value)] ^= 1 << (n % 8)
                    elif n % 4 == 1:
                        del value[(i + n) % len(value) :]
                    elif n % 4 == 2:
                        value = bytearray(values[i - 1])
                    else:
                        value = bytearray(len(value))
                    client.set(key, bytes(value))
                time.sleep(0.1)
        found = lookups(server, "corrupt") - before
        assert found > 0
        arena.tally.notes.append(f"{found:.0f} corrupt values met")


@fault("B9", "lists and hashes under the keys; rows of another table", "misses; no error, same bytes")
def wrong_type(arena: Arena) -> None:
    with arena.serve_with_redis() as (server, redis), redis.client() as client:
        fill(arena, server)
        keys = sorted(client.keys("ctr:*"))
        with arena.load(server):
            for i, key in enumerate(keys):
                client.delete(key)
                if i % 2:
                    client.rpush(key, "a")
                else:
                    client.hset(key, "a", "b")
            time.sleep(0.5)
        assert redis_state(server) == "ok"


@fault("B10", "replies that come after their request has given up", "dropped; no reply is ever taken for another's")
def crossed(arena: Arena) -> None:
    with proxied(arena) as (server, _, proxy):
        with arena.load(server, 400, num_threads=8):
            for n in range(10 * arena.scale):
                proxy.delay_s = (BUDGET_MS + 10) / 1000 if n % 2 else 0.0
                time.sleep(0.1)
        arena.tally.notes.append(f"{lookups(server, 'timeout'):.0f} rows given up on")


@fault(
    "B11",
    "Redis out of memory, a read-only replica, loading, without its master",
    "reading goes on or the table answers; no error, at most a log line a second",
)
def refusing(arena: Arena) -> None:
    with arena.serve_with_redis() as (server, redis), redis.client() as client:
        fill(arena, server)
        client.config_set("maxmemory", "1mb")
        client.config_set("maxmemory-policy", "noeviction")
        client.flushall()
        during(arena, server, lambda: None)
        client.config_set("maxmemory", "0")
        client.replicaof("127.0.0.1", "1")
        during(arena, server, lambda: None)
    with proxied(arena) as (server, _, proxy):
        for said in (
            b"-LOADING Redis is loading the dataset in memory\r\n",
            b"-MASTERDOWN Link with MASTER is down\r\n",
        ):
            lines = server.log.read_text().count("\n")
            during(arena, server, lambda s=said: setattr(proxy, "garbage", s))  # type: ignore[misc]
            assert server.log.read_text().count("\n") <= lines + 6
            proxy.pass_all()
            until(lambda: redis_state(server) == "ok", "answers again")


@fault(
    "B12",
    "a wrong password, no permission, too many clients",
    "the breaker opens with one clear line; no error, same bytes",
)
def denied(arena: Arena) -> None:
    refusals = {
        "password": ("CONFIG", "SET", "requirepass", "secret"),
        "permission": ("ACL", "SETUSER", "default", "-mget"),
        "clients": ("CONFIG", "SET", "maxclients", "1"),
    }
    for name, command in refusals.items():
        with running_redis(arena.directory / name) as redis, redis.client() as holder:
            holder.execute_command(*command)
            with arena.serve(redis_url=redis.url, redis_timeout_ms=BUDGET_MS, hot_bytes=0) as server:
                during(arena, server, lambda: None, 0.5)
                until(lambda server=server: redis_state(server) == "unavailable", name)  # type: ignore[misc]
                assert 1 <= server.log.read_text().count("Redis") <= 8


@fault("B14", "many requests for the same cold rows at once", "asked of Redis once, not once a request")
def stampede(arena: Arena) -> None:
    with proxied(arena) as (server, redis, proxy), redis.client() as client:
        client.flushall()
        client.config_resetstat()
        proxy.delay_s = 0.01
        body = arena.bodies[3]

        def ask() -> None:
            answer = httpx.post(
                f"{server.client.base_url}/predict", content=body, headers={"content-type": "application/json"}
            )
            arena.tally.note(
                answer.status_code,
                200,
                answer.elapsed.total_seconds(),
                arena.answers.is_right(3, answer.content, to_the_bit=False),
            )

        threads = [threading.Thread(target=ask) for _ in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        calls = client.info("commandstats").get("cmdstat_mget", {}).get("calls", 0)
        assert calls < 20, calls
        arena.tally.notes.append(f"40 requests, {calls} MGET")
