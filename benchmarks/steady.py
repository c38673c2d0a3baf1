"""Waiting for the machine's full speed: a virtual machine's processor may run at 0.6 of it for seconds, for its neighbours' sake.

Figures that are taken one after the other could not be compared. Before each, a fixed piece of work is timed until it takes no
longer than 1.1 times the shortest so far, for five seconds at most: a slow phase may last an hour, and what is compared is
measured close together. The last time is kept with the figure.
"""

from __future__ import annotations

import time

TOLERATED = 1.1
PATIENCE_S = 5.0
_shortest_s = float("inf")


def wait_for_full_speed() -> float:
    """Wait; return how long the fixed piece of work took last, relative to its shortest time in this process."""
    global _shortest_s  # one machine, one best time
    deadline = time.monotonic() + PATIENCE_S
    while True:
        took_s = min(_work() for _ in range(3))
        _shortest_s = min(_shortest_s, took_s)
        if took_s <= TOLERATED * _shortest_s or time.monotonic() > deadline:
            return round(took_s / _shortest_s, 3)
        time.sleep(0.3)


def _work() -> float:
    started = time.perf_counter()
    total = 0
    for i in range(200_000):
        total += i * i % 7
    return time.perf_counter() - started
