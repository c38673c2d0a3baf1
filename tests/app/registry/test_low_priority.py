"""Work beside the requests gives way, and what it starts does too; the event loop's own threads stay as they are."""

import asyncio
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.registry.low_priority import NICENESS, run_behind


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def niceness_of_a_child() -> int:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(niceness).result()


def fail() -> None:
    raise ValueError("no")


@pytest.fixture(autouse=True)
def _turns_as_before() -> Iterator[None]:
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priorities of their own")
def test_a_thread_behind_has_a_low_priority_and_so_have_those_that_it_starts() -> None:
    async def look() -> list[int]:
        found = [await run_behind(niceness), await run_behind(niceness_of_a_child), await asyncio.to_thread(niceness)]
        return [*found, niceness()]

    before = niceness()
    behind = max(NICENESS, before)
    assert asyncio.run(look()) == [behind, behind, before, before]


def test_results_and_errors_come_back_and_no_thread_is_left() -> None:
    async def look() -> int:
        with pytest.raises(ValueError, match="no"):
            await run_behind(fail)
        return await run_behind(max, 1, 2)

    assert asyncio.run(look()) == 2
    for thread in threading.enumerate():
        if thread.name.startswith("behind"):
            thread.join(10)
            assert not thread.is_alive()
