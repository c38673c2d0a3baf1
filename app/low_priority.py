"""Work beside the requests, such as loading the next model: in threads that give way to the one that answers."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

NICENESS = 10
"""A tenth of the processor where the event loop wants all of it. With 19 it is a seventieth: on a busy core a load took half
a minute, and a thread that gets no processor time holds the interpreter's lock meanwhile."""
SWITCH_INTERVAL_S = 0.001
"""How long one thread may keep the interpreter's lock from another, instead of 5 ms."""

MIN_SLEEP_S = 0.0001
SLEEP_FACTOR = 12
"""Seconds of sleep for each second of work: a load takes a thirteenth of a core, and most requests never meet it."""


class _Worked(threading.local):
    """Processor time of this thread when it last yielded, seconds."""

    until_s = 0.0


_worked = _Worked()


def yield_cpu(sleep_factor: float = SLEEP_FACTOR) -> None:
    """Yield the CPU to the event loop; called by a thread of low priority after each fraction of a millisecond of work.

    A low priority is not enough: Linux lets a running thread go on until the next clock tick, up to 4 ms later.

    Args:
        sleep_factor: seconds of sleep for each second of work since the last call.
    """
    time.sleep(max(MIN_SLEEP_S, sleep_factor * (time.thread_time() - _worked.until_s)))
    _worked.until_s = time.thread_time()


async def run_low_priority(function: Callable[..., T], *arguments: object) -> T:
    """Call ``function`` in a thread of its own, with a lower priority than the event loop's where the system can (Linux).

    Threads that it starts inherit the priority.
    """
    # A thread cannot raise its priority again, so it must not come from the event loop's pool.
    pool = ThreadPoolExecutor(1, thread_name_prefix="low-priority", initializer=_lower_priority)
    try:
        return await asyncio.get_running_loop().run_in_executor(pool, function, *arguments)
    finally:
        pool.shutdown(wait=False)


def _lower_priority() -> None:
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    if sys.platform == "linux":  # where threads have priorities of their own
        thread = threading.get_native_id()
        # Raising the priority is not allowed, and the service may have been started with a lower one.
        os.setpriority(os.PRIO_PROCESS, thread, max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))
