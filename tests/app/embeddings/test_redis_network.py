"""A bad line to a good server: late, cut, or left by its callers. No value ever reaches the wrong row."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from tests.app.embeddings.making import NUM_ROWS, open_world, until
from tests.app.embeddings.outage import TIMEOUT_MS
from tests.app.embeddings.proxy import open_proxy
from tests.redis_server import RedisServer

IDS = np.arange(400, 426)


def test_replies_later_than_the_callers_patience_are_never_anyone_elses(server: RedisServer, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    async def run() -> None:
        async with open_proxy(server.url, tmp_path) as (proxy, url), open_world(url, TIMEOUT_MS) as world:
            for _ in range(10):
                proxy.delay_s = float(rng.uniform(0, 0.04))
                await asyncio.gather(*(world.check(rng.integers(0, NUM_ROWS, 26)) for _ in range(20)))
            assert world.lookups("timeout") + world.lookups("error") > 0
            proxy.pass_all()
            await until(lambda: not world.is_open)
            await world.check(IDS)

    asyncio.run(run())


def test_of_500_cancelled_requests_none_crosses_a_value(server: RedisServer, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    async def run() -> None:
        # The budget is long, so that replies do come, but to requests that have gone.
        async with open_proxy(server.url, tmp_path) as (proxy, url), open_world(url) as world:
            await world.fill(np.arange(NUM_ROWS - 500, NUM_ROWS))
            proxy.delay_s = 0.003
            num_cancelled = 0
            while num_cancelled < 500:
                requests = [
                    asyncio.create_task(world.check(rng.integers(NUM_ROWS - 500, NUM_ROWS, 26))) for _ in range(20)
                ]
                await asyncio.sleep(rng.uniform(0, 0.006))
                for request in requests[:15]:
                    num_cancelled += request.cancel()
                for request, ended in zip(
                    requests, await asyncio.gather(*requests, return_exceptions=True), strict=True
                ):
                    assert ended is None or (request.cancelled() and isinstance(ended, asyncio.CancelledError)), ended
            assert world.lookups("hit") > 500
            assert world.lookups("corrupt") == 0
            assert not world.redis._waiters
            assert proxy.num_connections <= 3  # nobody's leaving cost a connection

    asyncio.run(run())


@pytest.mark.parametrize("cut_after", [0, 1, 5, 100, 1000])
def test_a_line_cut_in_the_middle_of_a_reply(server: RedisServer, tmp_path: Path, cut_after: int) -> None:
    async def run() -> None:
        async with open_proxy(server.url, tmp_path) as (proxy, url), open_world(url) as world:
            await world.fill(IDS)
            proxy.cut_after = cut_after
            await world.check(IDS)
            assert world.lookups("error") == len(IDS)
            proxy.pass_all()
            await world.check(IDS)  # on a new connection
            assert world.lookups("hit") == len(IDS)

    asyncio.run(run())
