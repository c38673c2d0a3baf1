"""Ctrl-C while libraries are imported. Imports nothing but the standard library itself."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STOPPED = 130
"""Exit status after Ctrl-C, as a shell gives it."""


@contextmanager
def quiet_interrupts() -> Iterator[None]:
    """End the process on Ctrl-C, quietly: a `KeyboardInterrupt` in the middle of an import would be a traceback."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: os._exit(STOPPED))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
