"""What every library is given: the same seeded rows, model sizes and clock. Needs numpy and torch alone."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version

import numpy as np

NUM_CATEGORICAL, NUM_NUMERIC = 26, 13
EMBEDDING_DIM = 16
WARM_UP_STEPS = 3
# How the ids are shared out between the categorical fields, as in Criteo: a few fields hold nearly all of them.
SHARES = np.array([0.25, 0.2, 0.15, 0.12, 0.1, 0.08, 0.05, 0.03] + [0.02 / 18] * 18)


def parse() -> argparse.Namespace:
    """Return the options of one run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--ids", type=int, required=True)
    parser.add_argument("--hidden", type=int, nargs="+", required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True, help="stop after so many; at least one step is timed")
    return parser.parse_args()


def sizes(num_ids: int) -> np.ndarray:
    """Return how many ids each categorical field has, int64 [26]."""
    return np.maximum((SHARES * num_ids).astype(np.int64), 4)


def rows(num_rows: int, num_ids: int, seed: int = 7) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return categorical ids int64 [n, 26], skewed as clicks are, numbers float32 [n, 13] and labels float32 [n]."""
    rng = np.random.default_rng(seed)
    ids = np.stack([(size * rng.random(num_rows) ** 4).astype(np.int64) for size in sizes(num_ids)], axis=1)
    numbers = rng.random((num_rows, NUM_NUMERIC), np.float32)
    labels = (rng.random(num_rows) < 0.1 + 0.3 * numbers[:, 0]).astype(np.float32)
    return ids, numbers, labels


def clock(steps: Iterable[Callable[[], int]], seconds: float) -> dict[str, float]:
    """Run steps, each returning its rows; time those after the warm-up until ``seconds`` are over."""
    done = timed = 0
    started, cpu = time.perf_counter(), time.process_time()
    for i, step in enumerate(steps):
        if i == WARM_UP_STEPS:
            done, started, cpu = 0, time.perf_counter(), time.process_time()
        done += step()
        timed = i + 1 - WARM_UP_STEPS
        if timed > 0 and time.perf_counter() - started > seconds:
            break
    return rates(timed, done, time.perf_counter() - started, time.process_time() - cpu)


def rates(steps: int, num_rows: int, seconds: float, cpu_seconds: float) -> dict[str, float]:
    """Return steps, rows and speed, by wall-clock time and by CPU time, which other processes disturb less."""
    return {
        "steps": steps,
        "rows": num_rows,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "rows_per_s": num_rows / seconds,
        "rows_per_cpu_s": num_rows / cpu_seconds,
        "cpu_ms_per_step": 1e3 * cpu_seconds / steps,
    }


def answer(library: str, what_is_timed: str, result: dict[str, float], packages: Iterable[str]) -> None:
    """Print one run's result as a line of JSON."""
    versions = {"python": platform.python_version(), **{p: version(p) for p in packages}}
    json.dump({"library": library, "what_is_timed": what_is_timed, **result, "versions": versions}, sys.stdout)
