"""The service with a real Redis behind it: whatever happens to Redis, the same bytes come back, in time."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.making import make_artifact, make_log
from tests.redis_server import BINARIES, RedisServer, running_redis
from tests.server import Server, serving

BUDGET_S = 0.05
# What else a loaded test machine may take; the point is that nobody waits for a driver's seconds.
SLACK_S = 4.0


@pytest.fixture(params=BINARIES)
def redis(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    with running_redis(tmp_path / "redis", request.param) as server:
        yield server


@pytest.fixture
def server(redis: RedisServer, tmp_path: Path) -> Iterator[Server]:
    make_artifact(tmp_path / "artifacts")
    with serving(tmp_path / "artifacts", redis_url=redis.url, redis_timeout_ms=BUDGET_S * 1000, hot_bytes=0) as running:
        running.wait_for(lambda: running.client.get("/health/ready").json()["redis"] == "ok")
        yield running


def request_body() -> dict[str, object]:
    frame = make_log().frame.head(40)
    columns = {name: frame[name].to_list() for name in ("user_id", "site", "clicked_ads", "ad_id", "price")}
    return {"inputs": {**columns, "user_id": [int(u) for u in columns["user_id"]]}}


def ask(server: Server) -> bytes:
    started = time.monotonic()
    answer = server.client.post("/predict", json=request_body())
    assert time.monotonic() - started < BUDGET_S + SLACK_S
    assert answer.status_code == 200, answer.text
    return answer.content


def lookups(server: Server, outcome: str) -> float:
    return server.metric("ctr_redis_lookups_total", outcome=outcome)


def warm(server: Server) -> bytes:
    """Ask until rows come from Redis; return the answer."""
    answer = ask(server)
    rows = lookups(server, "miss")
    assert rows > 0
    server.wait_for(lambda: server.metric("ctr_redis_writes_total", outcome="ok") > 0)

    def hits() -> bool:
        before = lookups(server, "hit")
        assert ask(server) == answer
        return lookups(server, "hit") > before

    server.wait_for(hits)
    return answer


def test_rows_come_from_redis_and_a_flush_only_makes_misses(server: Server, redis: RedisServer) -> None:
    answer = warm(server)
    assert server.metric("ctr_embedding_rows_total", tier="redis") > 0
    misses = lookups(server, "miss")
    with redis.client() as client:
        client.flushall()
    assert ask(server) == answer
    assert lookups(server, "miss") > misses


def test_corrupt_values_are_counted_and_never_used(server: Server, redis: RedisServer) -> None:
    answer = warm(server)
    with redis.client() as client:
        keys = sorted(client.keys("ctr:*"))
        assert keys
        for i, key in enumerate(keys):
            stored = client.get(key)
            assert isinstance(stored, bytes)
            value = bytearray(stored)
            value[i % len(value)] ^= 0x10
            client.set(key, bytes(value))
    assert ask(server) == answer
    assert lookups(server, "corrupt") > 0


def test_a_killed_redis_costs_nothing_but_hits_and_comes_back(server: Server, redis: RedisServer) -> None:
    answer = warm(server)
    redis.kill()
    assert all(ask(server) == answer for _ in range(10))
    server.wait_for(lambda: server.client.get("/health/ready").json()["redis"] == "unavailable")
    assert server.client.get("/health/ready").status_code == 200
    assert server.metric("ctr_redis_breaker_open") == 1
    assert lookups(server, "error") > 0
    assert ask(server) == answer
    assert lookups(server, "skipped") > 0
    redis.start()
    server.wait_for(lambda: server.client.get("/health/ready").json()["redis"] == "ok")
    assert warm(server) == answer


def test_a_frozen_redis_is_waited_for_no_longer_than_the_budget(server: Server, redis: RedisServer) -> None:
    answer = warm(server)
    redis.freeze()
    assert all(ask(server) == answer for _ in range(10))
    assert lookups(server, "timeout") + lookups(server, "error") > 0
    server.wait_for(lambda: server.client.get("/health/ready").json()["redis"] == "unavailable")
    redis.thaw()
    server.wait_for(lambda: server.client.get("/health/ready").json()["redis"] == "ok")
    assert warm(server) == answer


def test_the_answers_are_those_without_redis(server: Server, tmp_path: Path) -> None:
    answer = warm(server)
    with serving(tmp_path / "artifacts") as alone:
        assert ask(alone) == answer
