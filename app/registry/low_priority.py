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
a minute, and a thread that the processor is kept from keeps the interpreter's lock meanwhile."""
TURN_S = 0.001
"""How long one thread may keep the interpreter's lock from another, instead of 5 ms."""

MIN_PAUSE_S = 0.0001
REST = 12
"""Sleep so many times as long as was worked: a load has a thirteenth of a core, and most requests never meet it."""


class _Worked(threading.local):
    """Processor time of this thread at the end of its last pause, seconds."""

    until_s = 0.0


_worked = _Worked()


def pause() -> None:
    """Let the requests that have come go first; called from a thread behind, after every fraction of a millisecond of work.

    A lower priority is not enough: Linux lets a thread that runs go on until the clock's next tick, up to 4 ms later.
    """
    time.sleep(max(MIN_PAUSE_S, REST * (time.thread_time() - _worked.until_s)))
    _worked.until_s = time.thread_time()


async def run_behind(function: Callable[..., T], *arguments: object) -> T:
    """Call ``function`` in a thread of its own that has a lower priority than the event loop's, where the system can (Linux).

    The threads that it starts inherit that.
    """
    # A thread cannot have its priority back: so not one of the event loop's pool.
    pool = ThreadPoolExecutor(1, thread_name_prefix="behind", initializer=_give_way)
    try:
        return await asyncio.get_running_loop().run_in_executor(pool, function, *arguments)
    finally:
        pool.shutdown(wait=False)


def _give_way() -> None:
    sys.setswitchinterval(TURN_S)
    if sys.platform == "linux":  # where threads have priorities of their own
        thread = threading.get_native_id()
        # Never up, which is not allowed: the service may have been started with a lower one.
        os.setpriority(os.PRIO_PROCESS, thread, max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))
