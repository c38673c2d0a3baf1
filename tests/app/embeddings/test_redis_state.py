"""Readiness says ``unavailable`` when look-ups fail, whatever the reason and however few there are, and the log says so once."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.app.embeddings.conftest import PROBE_S
from tests.app.embeddings.making import World, open_world, until
from tests.app.embeddings.outage import SLACK_S, timed_check
from tests.app.embeddings.proxy import Proxy, open_proxy
from tests.redis_server import RedisServer, running_redis

pytestmark = pytest.mark.usefixtures("_hurried")

IDS = np.arange(400, 426)


@pytest.fixture(scope="module")
def any_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server for the tests in which a proxy replies."""
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


async def states_of(world: World) -> set[str]:
    """Return the states shown while three probes are sent or more."""
    states = set[str]()
    for _ in range(50):
        states.add(world.redis.state())
        await asyncio.sleep(PROBE_S / 10)
    return states


def reply_with(*parts: bytes) -> Callable[[Proxy], None]:
    def change(proxy: Proxy) -> None:
        proxy.garbage = b"".join(parts)

    return change


def reply_late(proxy: Proxy) -> None:
    proxy.delay_s = 0.1


def reply_never(proxy: Proxy) -> None:
    proxy.is_silent = True


def cut(proxy: Proxy) -> None:
    proxy.cut_after = 0


CAUSES: dict[str, Callable[[Proxy], None]] = {
    "late": reply_late,
    "silent": reply_never,
    "cut": cut,
    "an error": reply_with(b"-ERR no\r\n"),
    "a refusal": reply_with(b"-NOPERM no\r\n"),
    "loading": reply_with(b"-LOADING Redis is loading the dataset in memory\r\n"),
    "another node": reply_with(b"-MOVED 3999 127.0.0.1:6381\r\n"),
    "an error for each key": reply_with(b"*26\r\n", b"-ERR no\r\n" * 26),
    "a number for each key": reply_with(b"*26\r\n", b":7\r\n" * 26),
    "a list for each key": reply_with(b"*26\r\n", b"*0\r\n" * 26),
    "one value too few": reply_with(b"*25\r\n", b"$-1\r\n" * 25),
    "a status": reply_with(b"+OK\r\n"),
    "nil": reply_with(b"*-1\r\n"),
    "a giant array": reply_with(b"*2147483647\r\n"),
    "a giant value": reply_with(b"*26\r\n$2147483647\r\n"),
    "a large array": reply_with(b"*1000000\r\n"),
    "one value": reply_with(b"*1\r\n$1\r\nx\r\n"),
    "arrays in arrays": reply_with(b"*1\r\n" * 1_000),
    "an error that is not UTF-8": reply_with(b"-ERR \xff\xfe broken\r\n"),
    "not RESP": reply_with(b"HTTP/1.1 200 OK\r\n\r\n"),
    "not text": reply_with(b"\x00\xff\xfe" * 50),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_one_failed_look_up_shows_until_one_or_a_probe_succeeds(
    any_server: RedisServer, tmp_path: Path, cause: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ctrserve.redis")

    async def run() -> None:
        async with open_proxy(any_server.url, tmp_path) as (proxy, url), open_world(url, timeout_ms=50) as world:
            await until(lambda: world.redis.state() == "ok")
            CAUSES[cause](proxy)
            assert await timed_check(world, IDS) < 0.05 + SLACK_S
            assert world.lookups("hit") == 0
            assert world.redis.state() == "unavailable"
            assert await states_of(world) == {"unavailable"}
            assert world.is_open
            assert 1 <= len(caplog.messages) == len(set(caplog.messages))  # a busy machine adds that one came too late
            proxy.pass_all()
            await until(lambda: world.redis.state() == "ok")
            await world.check(IDS)
            assert world.redis.state() == "ok"

    asyncio.run(run())
    assert sum("answers again" in line for line in caplog.messages) <= 1


def test_a_giant_reply_is_refused_by_the_bounded_parser(
    any_server: RedisServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with open_proxy(any_server.url, tmp_path) as (proxy, url), open_world(url) as world:
            await until(lambda: world.redis.state() == "ok")
            reply_with(b"*2147483647\r\n")(proxy)
            await world.check(IDS)
            await until(lambda: world.is_open)

    asyncio.run(run())
    assert "a reply of giant length" in caplog.text


def test_a_look_up_that_is_refused_while_the_first_probe_is_not_stays_refused(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ctrserve.redis")

    async def run() -> None:
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", "worker", "on", ">secret", "~ctr:probe", "+mget")
        async with open_world(f"{server.url}?username=worker&password=secret") as world:
            await until(lambda: world.redis.state() == "ok")
            await world.check(IDS)
            assert await states_of(world) == {"unavailable"}
            with server.client() as client:
                client.execute_command("ACL", "SETUSER", "worker", "~ctr:*")
            await until(lambda: world.redis.state() == "ok")
            await until(lambda: len(caplog.messages) == 2)

    asyncio.run(run())
    assert [line.split("(")[0] for line in caplog.messages] == ["Redis refuses us ", "Redis answers again"]


def test_a_server_that_was_never_reached_is_unavailable_from_the_start(tmp_path: Path) -> None:
    async def run() -> None:
        async with open_world(f"unix://{tmp_path}/nothing.sock") as world:
            assert await states_of(world) == {"unavailable"}

    asyncio.run(run())


def test_misses_and_corrupt_values_are_answers(server: RedisServer) -> None:
    async def run() -> None:
        async with open_world(server.url) as world:
            await until(lambda: world.redis.state() == "ok")
            await world.fill(IDS)
            with server.client() as client:
                for key in client.keys("ctr:*"):
                    client.set(key, b"rubbish")
            await world.check(IDS)
            assert world.lookups("corrupt") == len(IDS)
            assert world.redis.state() == "ok"

    asyncio.run(run())
