"""Whatever befalls the server, the rows are the table's, in time, and the counters say what happened."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from app.embeddings.row_codec import RowCodec
from tests.app.embeddings.making import DIGEST, DIM, make_table, open_world, until
from tests.app.embeddings.outage import SLACK_S, TIMEOUT_MS, check_until_open, timed_check
from tests.redis_server import RedisServer

pytestmark = pytest.mark.usefixtures("_hurried")

IDS = np.arange(400, 426)
CODEC = RowCodec(DIGEST, DIM)
TABLE = make_table()


def test_no_server_at_start_and_one_that_comes_later(tmp_path: Path, binary: Path | None) -> None:
    server = RedisServer(tmp_path, binary)

    async def run() -> None:
        async with open_world(server.url) as world:
            await world.check(IDS)
            await until(lambda: world.is_open)  # by its own first probe
            await world.check(IDS)
            assert world.lookups("skipped") >= len(IDS)
            server.start()
            await until(lambda: not world.is_open)
            await world.fill(IDS)
            await world.check(IDS)
            assert world.lookups("hit") == len(IDS)

    try:
        asyncio.run(run())
    finally:
        server.stop()


@pytest.mark.parametrize("fault", [RedisServer.kill, RedisServer.stop], ids=["kill", "stop"])
def test_a_server_that_ends_is_left_alone_and_used_again_when_it_is_back(
    server: RedisServer, fault: Callable[[RedisServer], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ctrserve.redis")

    async def run() -> None:
        async with open_world(server.url) as world:
            await world.fill(IDS)
            fault(server)
            await check_until_open(world, IDS)
            assert world.lookups("error") > 0
            server.start()
            await until(lambda: not world.is_open)
            await world.fill(IDS)
            hits = world.lookups("hit")
            await world.check(IDS)
            assert world.lookups("hit") == hits + len(IDS)
            await until(lambda: caplog.messages[-1] == "Redis answers again")

    asyncio.run(run())
    assert len(caplog.messages) == len(set(caplog.messages)) <= 3
    assert caplog.messages[0].startswith("Redis is left alone (ConnectionError")


def test_another_failure_than_the_first_is_told_too_and_each_once(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with open_world(server.url, 10 * TIMEOUT_MS) as world:  # so that no load makes the first probe late
            await until(lambda: world.redis.state() == "ok")
            server.freeze()
            await check_until_open(world, IDS)
            await until(lambda: len(caplog.messages) == 1)
            server.kill()
            await until(lambda: len(caplog.messages) == 2)
            await asyncio.sleep(0.5)  # at least one more probe

    asyncio.run(run())
    assert [line.split()[4] for line in caplog.messages] == ["(TimeoutError", "(ConnectionError"]


def test_many_requests_at_once_wait_no_longer_than_one(server: RedisServer) -> None:
    async def run() -> None:
        async with open_world(server.url, TIMEOUT_MS) as world:
            server.freeze()
            took = await asyncio.gather(*(timed_check(world, IDS + i) for i in range(200)))
            assert max(took) < TIMEOUT_MS / 1000 + 2 * SLACK_S

    asyncio.run(run())


def test_corrupt_values_are_counted_and_replaced(server: RedisServer) -> None:
    async def run() -> None:
        async with open_world(server.url) as world:
            good, other = CODEC.encode(IDS[:2], TABLE[IDS[:2]])
            with server.client() as client:
                for number, value in enumerate(
                    (b"", good[:-1], other, RowCodec("f" * 64, DIM).encode(IDS[:1], TABLE[IDS[:1]])[0]), 1
                ):
                    client.set(CODEC.keys(IDS)[0], value)
                    await world.fill(IDS[:1])
                    assert world.lookups("corrupt") == number, value
                    await world.check(IDS[:1])
                    assert world.lookups("hit") == number, value

    asyncio.run(run())


def test_rows_that_no_server_takes_are_counted(server: RedisServer) -> None:
    async def run() -> None:
        async with open_world(server.url) as world:
            await world.fill(IDS)
            server.kill()
            world.redis.remember(CODEC, IDS, TABLE[IDS])
            await until(lambda: world.writes("error") == len(IDS))
            await world.check(IDS)

    asyncio.run(run())
