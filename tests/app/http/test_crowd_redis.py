"""Requests of one turn that wait for Redis together; each alone, the ordinary way, is the oracle."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.app.http.test_crowd import GOOD, KINDS, assert_same, crowd_of, taken
from tests.app.http.test_http_exchange import in_loop
from tests.app.scoring.test_at_once import ORDINARY, ROWS, Connection, Service, request, service
from tests.redis_server import RedisServer, running_redis

pytestmark = pytest.mark.skipif(find_spec("models._native") is None, reason="needs the compiled reader")
MISSES = 'ctr_redis_lookups_total{outcome="miss"}'
HITS = 'ctr_redis_lookups_total{outcome="hit"}'


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with running_redis(tmp_path) as server:
        yield server


@asynccontextmanager
async def with_redis(artifacts: Path, redis: RedisServer, timeout_ms: float = 1_000) -> AsyncIterator[Service]:
    """A service that asks Redis for all rows; Redis has those of the requests here."""
    async with service(artifacts, redis_url=redis.url, hot_bytes=0, redis_timeout_ms=timeout_ms) as running:
        await until(running.hot_path.may_wait)
        connection, misses = running.connect(), -1.0
        while misses != running.metrics().get(MISSES, 0.0):
            misses = running.metrics().get(MISSES, 0.0)
            assert (await connection.ask(request(ROWS, ORDINARY)))[9:12] == b"200"
            await asyncio.sleep(0.05)
        yield running


def counts(running: Service) -> dict[str, float]:
    """All that counts requests and rows; not how often Redis was asked, which is what a crowd saves."""
    running.hot_path._app.state.service.snapshot().scores.count()
    return {name: value for name, value in running.metrics().items() if "redis_seconds" not in name}


async def until(is_true: Callable[[], bool]) -> None:
    for _ in range(2_000):
        if is_true():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came true")


async def answered(connections: list[Connection], requests: list[bytes]) -> list[bytes]:
    """Bring a request to each connection in one turn; return what leaves for them, however late."""
    for connection, data in zip(connections, requests, strict=True):
        assert connection.at_once(data) == b""
    await until(lambda: all(map(taken, connections)))
    await asyncio.sleep(0)
    return [taken(connection) for connection in connections]


@pytest.mark.parametrize("seed", range(3))
@in_loop
async def test_each_is_answered_and_counted_as_if_it_were_alone(artifacts: Path, redis: RedisServer, seed: int) -> None:
    draw = random.Random(seed)
    async with with_redis(artifacts, redis) as ordinary, with_redis(artifacts, redis) as crowded:
        connections, alone = await crowd_of(crowded, 12), ordinary.connect()
        before = [counts(running) for running in (ordinary, crowded)]
        for _ in range(4):
            bodies = [draw.choice(KINDS) for _ in connections]
            answers = await answered(connections, [request(body) for body in bodies])
            for body, answer in zip(bodies, answers, strict=True):
                assert_same(answer, await alone.ask(request(body, ORDINARY)))
        assert crowded.state["gate"].num_requests == crowded.state["gate"].num_bytes == 0
        changes = [
            {name: value - was.get(name, 0) for name, value in counts(running).items()}
            for running, was in zip((ordinary, crowded), before, strict=True)
        ]
        assert changes[0] == changes[1]
        assert changes[0][HITS] > 100


@in_loop
async def test_a_lone_request_waits_without_a_scope_of_its_own(artifacts: Path, redis: RedisServer) -> None:
    async with with_redis(artifacts, redis) as running:
        (connection,) = await crowd_of(running, 1)
        running.state["turns"]._patience, running.state["turns"].is_quiet = 0, True
        assert connection.at_once(GOOD) == b""
        assert not connection.protocol.tasks
        await until(lambda: bool(taken(connection)))
        assert taken(connection).startswith(b"HTTP/1.1 200")


@in_loop
async def test_while_redis_is_silent_nobody_waits_longer_than_the_budget(artifacts: Path, redis: RedisServer) -> None:
    async with with_redis(artifacts, redis, timeout_ms=50) as running:
        connections = await crowd_of(running, 5)
        expected = await running.connect().ask(request([ROWS[0]], ORDINARY))
        redis.freeze()
        try:
            began = asyncio.get_running_loop().time()
            answers = await answered(connections, [GOOD] * 5)
            assert 0.04 < asyncio.get_running_loop().time() - began < 2
        finally:
            redis.thaw()
        for answer in answers:
            assert_same(answer, expected)
        assert running.metrics()['ctr_redis_lookups_total{outcome="timeout"}'] > 0


@in_loop
async def test_who_goes_asks_more_or_is_stopped_while_rows_are_waited_for(artifacts: Path, redis: RedisServer) -> None:
    async with with_redis(artifacts, redis, timeout_ms=100) as running:
        lost, asks_more, stopped, stays = connections = await crowd_of(running, 4)
        redis.freeze()
        try:
            for connection in connections:
                connection.at_once(GOOD)
            for _ in range(3):
                await asyncio.sleep(0)  # the turn has ended, and Redis is asked
            assert running.state["gate"].num_requests == 4
            lost.protocol.connection_lost(None)
            asks_more.protocol.data_received(GOOD)
            stopped.protocol.shutdown()
            await until(lambda: bool(taken(stays)) and bool(taken(stopped)) and taken(asks_more).count(b"200 OK") == 2)
        finally:
            redis.thaw()
        assert taken(lost) == b""
        assert [taken(c).count(b"HTTP/1.1 200") for c in (asks_more, stopped, stays)] == [2, 1, 1]
        assert stopped.wire.is_closed
        assert running.state["gate"].num_requests == running.state["gate"].num_bytes == 0
