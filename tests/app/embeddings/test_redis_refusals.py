"""A server that is there but refuses: full, a wrong password, a short access list."""

import asyncio
import logging
from pathlib import Path

import numpy as np
import pytest

from tests.app.embeddings.making import open_world, until
from tests.app.embeddings.outage import check_until_open
from tests.redis_server import RedisServer, running_redis

pytestmark = pytest.mark.usefixtures("_hurried")

IDS = np.arange(400, 426)


def test_a_server_that_is_full_is_still_read(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        async with open_world(server.url) as world:
            await world.fill(IDS)
            with server.client() as client:
                client.config_set("maxmemory-policy", "noeviction")
                client.config_set("maxmemory", 1)
            await world.check(IDS + 100)
            await until(lambda: world.writes("error") == len(IDS))
            await world.check(IDS + 200)
            assert world.writes("dropped") == len(IDS)  # left alone for a while
            await world.check(IDS)
            assert world.lookups("hit") == len(IDS)
            assert not world.is_open

    asyncio.run(run())
    assert [line.startswith("Redis takes no writes (OutOfMemoryError") for line in caplog.messages] == [True]


def test_writing_goes_on_after_a_pause(
    server: RedisServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "ctrserve.redis")
    monkeypatch.setattr("app.embeddings.write_behind.PAUSE_WHEN_REFUSED_S", 0.1)

    async def run() -> None:
        async with open_world(server.url) as world:
            with server.client() as client:
                client.config_set("min-replicas-to-write", 1)  # NOREPLICAS
                await world.check(IDS)
                await until(lambda: world.writes("error") == len(IDS))
                client.config_set("min-replicas-to-write", 0)
            await asyncio.sleep(0.15)
            await world.fill(IDS)
            await until(lambda: len(caplog.messages) == 2)

    asyncio.run(run())
    assert caplog.messages[-1] == "Redis takes writes again"


@pytest.mark.parametrize("credentials", ["", "default:wrong@", "stranger:wrong@"], ids=["none", "password", "user"])
def test_wrong_credentials_open_the_breaker_with_one_line(
    tmp_path: Path, binary: Path | None, credentials: str, caplog: pytest.LogCaptureFixture
) -> None:
    arguments = ("--requirepass", "right")

    async def run(url: str) -> None:
        async with open_world(url) as world:
            await world.check(IDS)
            await until(lambda: world.is_open)
            await world.check(IDS)
            await asyncio.sleep(0.3)  # at least one more probe
            assert world.is_open
            assert world.lookups("hit") == 0

    with running_redis(tmp_path, binary, arguments) as server:
        user, _, password = credentials.removesuffix("@").partition(":")
        query = f"?username={user}&password={password}" if credentials else ""
        asyncio.run(run(server.url + query))
    assert len(caplog.messages) == 1
    assert caplog.records[0].levelno == logging.ERROR
    assert "wrong" not in caplog.messages[0].replace("WRONGPASS", "")


def acl(server: RedisServer, *rules: str) -> None:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "worker", "reset", "on", ">secret", *rules)


def test_the_documented_access_list_suffices_and_less_opens_the_breaker(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    acl(server, "~ctr:*", "+mget", "+set")

    async def run() -> None:
        async with open_world(f"{server.url}?username=worker&password=secret") as world:
            await world.fill(IDS)
            await world.check(IDS)
            assert world.lookups("hit") == len(IDS)
            acl(server, "~ctr:*", "+mget")  # this also ends the user's connections
            with server.client() as client:
                client.execute_command("ACL", "SETUSER", "worker", ">secret")
            await world.check(IDS)
            await until(lambda: not world.is_open)
            await world.check(IDS + 100)
            await until(lambda: world.writes("error") > 0)
            assert not world.is_open
            acl(server, "~ctr:*", "+ping")
            await check_until_open(world, IDS)

    asyncio.run(run())
    assert any("Redis takes no writes (NoPermissionError" in line for line in caplog.messages)
