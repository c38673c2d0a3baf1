"""Jobs that follow files: independent of each other, and of their own failures."""

import asyncio
import logging

import pytest

from app.registry.follower import Follower
from tests.app.embeddings.making import until

POLL_S = 0.001


async def until_run(runs: list[int], more: int) -> None:
    """Wait until ``runs`` is longer by ``more``."""
    wanted = len(runs) + more
    await until(lambda: len(runs) >= wanted)


def test_a_job_that_hangs_or_fails_does_not_keep_the_others_from_running() -> None:
    runs: list[int] = []
    is_first = True

    async def hang() -> None:
        nonlocal is_first
        if not is_first:
            await asyncio.sleep(3600)
        is_first = False

    async def fail() -> None:
        raise OSError("no")

    async def work() -> None:
        runs.append(1)

    async def run() -> None:
        async with Follower(POLL_S, {"hang": hang, "fail": fail, "work": work}):
            assert runs == [1]  # each has run once, in order
            await until_run(runs, 5)
        num_runs = len(runs)
        await asyncio.sleep(10 * POLL_S)
        assert len(runs) == num_runs  # leaving stops them, the one that hangs too

    asyncio.run(run())


def test_the_log_has_one_line_for_each_change_of_a_jobs_state(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ctrserve.follower")
    runs: list[int] = []
    error: Exception | None = None

    async def job() -> None:
        runs.append(1)
        if error is not None:
            raise error

    async def run() -> None:
        nonlocal error
        async with Follower(POLL_S, {"catalog": job}):
            for state in (None, OSError("a directory"), OSError("a pipe"), None):
                error = state
                await until_run(runs, 5)

    asyncio.run(run())
    assert caplog.messages == ["catalog: cannot be followed"] * 2 + ["catalog: followed again"]
    assert ["a directory" in (r.exc_text or "") for r in caplog.records] == [True, False, False]
