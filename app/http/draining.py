"""Leaving without an error seen by anybody: on SIGTERM the service first says that it goes, then stops listening."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def draining_first(begin: Callable[[], None], drain_s: float) -> Iterator[None]:
    """Put a lame-duck period before what the process does on SIGTERM and SIGINT; a second signal skips what is left of it.

    While it lasts the listener is open: clients with kept-alive connections are told to close them, and a load balancer
    has time to notice that readiness is gone. Outside the main thread, where there are no signals, nothing is changed.

    Args:
        begin: called at the first signal, in the event loop's thread.
        drain_s: seconds until the previous handler is called.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    previous: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS}
    is_draining = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal is_draining
        stop = previous[number]
        if not callable(stop):
            stop = signal.default_int_handler
        if is_draining or drain_s == 0:
            stop(number, frame)
            return
        is_draining = True
        begin()
        # From a signal handler the loop has to be woken.
        loop.call_soon_threadsafe(loop.call_later, drain_s, stop, number, None)

    for number in SIGNALS:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for given, handler in previous.items():
            signal.signal(given, handler)
