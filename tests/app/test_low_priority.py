"""Threads of low priority, those that they start too; the event loop's own threads keep their priority."""

import asyncio
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.low_priority import NICENESS, run_low_priority


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def niceness_of_a_child() -> int:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(niceness).result()


def fail() -> None:
    raise ValueError("no")


@pytest.fixture(autouse=True)
def _switch_interval_as_before() -> Iterator[None]:
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priorities of their own")
def test_a_low_priority_thread_and_the_threads_that_it_starts_have_a_low_priority() -> None:
    async def look() -> list[int]:
        found = [
            await run_low_priority(niceness),
            await run_low_priority(niceness_of_a_child),
            await asyncio.to_thread(niceness),
        ]
        return [*found, niceness()]

    before = niceness()
    low = max(NICENESS, before)
    assert asyncio.run(look()) == [low, low, before, before]


def test_results_and_errors_come_back_and_no_thread_is_left() -> None:
    async def look() -> int:
        with pytest.raises(ValueError, match="no"):
            await run_low_priority(fail)
        return await run_low_priority(max, 1, 2)

    assert asyncio.run(look()) == 2
    for thread in threading.enumerate():
        if thread.name.startswith("low-priority"):
            thread.join(10)
            assert not thread.is_alive()
