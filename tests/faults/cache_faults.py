"""B: Redis gone, frozen, emptied, refusing. The right answers are those of a service that has none."""

from __future__ import annotations

import threading
import time

import httpx

from tests.faults.matrix import BUDGET_MS, Arena, fault
from tests.faults.redis_watching import during, fill, proxied, redis_state
from tests.faults.watching import until
from tests.redis_server import running_redis


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


@fault("B3", "Redis returns, empty", "the breaker closes, rows come from it again; at most 3 connections per process")
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
    "Redis frozen by SIGSTOP under load, then continued",
    "no error, same bytes; no request waits beyond its budget; the breaker opens and closes, and the log says so once each",
)
def frozen(arena: Arena) -> None:
    with arena.serve_with_redis() as (server, redis):
        fill(arena, server)
        longest_s = during(arena, server, redis.freeze)
        arena.tally.notes.append(f"{longest_s * 1000:.0f} ms at most")
        assert redis_state(server) == "unavailable"
        assert server.metric("ctr_redis_breaker_open") == 1
        redis.thaw()
        until(lambda: redis_state(server) == "ok", "closed")
        assert server.metric("ctr_redis_breaker_open") == 0
        until(lambda: "Redis answers again" in server.log.read_text(), "said")
        assert [server.log.read_text().count(said) for said in ("is left alone", "answers again")] == [1, 1]
        fill(arena, server)


@fault("B7", "FLUSHALL every 100 ms under load", "only misses; no error, same bytes")
def flushed(arena: Arena) -> None:
    with arena.serve_with_redis() as (server, redis), redis.client() as client:
        fill(arena, server)
        with arena.load(server):
            for _ in range(10 * arena.scale):
                client.flushall()
                time.sleep(0.1)


@fault(
    "B11",
    "Redis out of memory, a read-only replica, loading, without its master",
    "reading continues or the table answers; no error, at most one log line a second",
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
            assert server.log.read_text().count("\n") <= lines + 3  # in a second and a third
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
                assert sum("Redis" in line for line in server.log.read_text().splitlines()) == 1


@fault("B14", "many requests for the same cold rows at once", "Redis is asked once, not once per request")
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
