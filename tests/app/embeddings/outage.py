"""What every outage must look like to the requests: each in time, and once Redis is left alone, immediate."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from tests.app.embeddings.making import World

TIMEOUT_MS = 20.0
SLACK_S = 1.0  # for a machine that runs other things too


async def timed_check(world: World, ids: NDArray[np.int64]) -> float:
    started = time.monotonic()
    await world.check(ids)
    return time.monotonic() - started


async def check_until_open(world: World, ids: NDArray[np.int64]) -> None:
    """Ask again and again, each time within the budget, until Redis is left alone; then asking is immediate."""
    deadline = time.monotonic() + 10
    while not world.is_open:
        assert time.monotonic() < deadline
        assert await timed_check(world, ids) < TIMEOUT_MS / 1000 + SLACK_S
    skipped = world.lookups("skipped")
    started = time.monotonic()
    for _ in range(100):
        assert world.source.fetch_now(ids) is not None
        await world.check(ids)
    assert time.monotonic() - started < SLACK_S
    assert world.lookups("skipped") == skipped + 200 * len(ids)
    assert world.redis.state() == "unavailable"
