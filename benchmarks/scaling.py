"""``python -m benchmarks.scaling``: cost by size of the batch, number of ids, of fields and of workers.

Each model has a fresh server; wrk sends a closed loop. The time to start is from starting the process to the first answer, with
the artifact in the page cache.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import processes, wrk
from benchmarks.conditions import conditions, save
from benchmarks.model import Shape, write_model
from benchmarks.servers import NotStarted, ctrserve, free_port, running
from benchmarks.workload import SERVED, Traffic, row_bodies

BATCHES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000)
NUM_IDS = (10**4, 10**5, 10**6, 10**7)
NUM_FIELDS = (10, 20, 39, 80, 120, 200)
WORKERS = (1, 2)
WARM_UP_S = 1
NUM_DEALS = 5


class Bench:
    """Measures one server after the other in a temporary directory."""

    def __init__(self, root: Path, seconds: int) -> None:
        self._root = root
        self._seconds = seconds

    def write(self, shape: Shape) -> Path:
        """Write the artifact of a shape; it replaces the one before."""
        return write_model(self._root, Traffic(1, shape).rows(64), shape)

    def load(self, port: int, shape: Shape, rows: int, connections: int) -> dict[str, Any]:
        """Load the server with requests of ``rows`` rows."""
        script = self._root / "load.lua"
        wrk.write_lua(script, row_bodies(rows, max(4, min(400, 4_000 // rows)), shape=shape))
        wrk.load(port, "/predict", script, connections, WARM_UP_S)
        return wrk.load(port, "/predict", script, connections, self._seconds)

    def _median_load(self, port: int, rows: int, connections: int) -> dict[str, Any]:
        found = [self.load(port, SERVED, rows, connections) for _ in range(NUM_DEALS)]
        found.sort(key=lambda one: one["requests_per_s"])
        return {**found[NUM_DEALS // 2], "all_requests_per_s": [one["requests_per_s"] for one in found]}

    def batches(self) -> list[dict[str, Any]]:
        """Return latencies by rows in a request."""
        artifacts, port = self.write(SERVED), free_port()
        with running(ctrserve(artifacts, port), port, Traffic().rows(1)[0], self._root / "log"):
            return [{"rows": n, **self.load(port, SERVED, n, 1)} for n in BATCHES]

    def ids(self) -> list[dict[str, Any]]:
        """Return start, memory and latencies by number of ids."""
        return [self._model(Shape(tokens_per_field=n // SERVED.num_categorical)) for n in NUM_IDS]

    def fields(self) -> list[dict[str, Any]]:
        """Return start, memory and latencies by number of fields; two thirds are categorical, with 100,000 ids in all."""
        found = []
        for n in NUM_FIELDS:
            numeric = n // 3
            found.append(self._model(Shape(n - numeric, numeric, tokens_per_field=100_000 // (n - numeric))))
        return found

    def _model(self, shape: Shape) -> dict[str, Any]:
        began = time.monotonic()
        artifacts, port = self.write(shape), free_port()
        written_s = time.monotonic() - began
        size = sum(path.stat().st_size for path in artifacts.rglob("*") if path.is_file())
        with running(ctrserve(artifacts, port), port, Traffic(2, shape).rows(1)[0], self._root / "log") as (
            process,
            start_s,
        ):
            return {
                "ids": shape.num_ids,
                "fields": shape.num_categorical + shape.num_numeric,
                "artifact_bytes": size,
                "written_s": round(written_s, 2),
                "start_to_ready_s": round(start_s, 3),
                "1 row": self.load(port, shape, 1, 1),
                "100 rows": self.load(port, shape, 100, 1),
                "memory": processes.total_memory(processes.family(process.pid)),
            }

    def workers(self) -> list[dict[str, Any]]:
        """Return throughput and memory by number of worker processes.

        The system distributes connections to workers at random, sometimes all to one: each figure is the median of five runs.
        """
        artifacts, found = self.write(SERVED), []
        for n in WORKERS:
            port = free_port()
            with running(ctrserve(artifacts, port, workers=n), port, Traffic().rows(1)[0], self._root / "log") as (
                process,
                start_s,
            ):
                time.sleep(2)  # the others become ready
                loads = {f"1 row @{c}": (1, c) for c in (1, 16, 64)} | {"100 rows @4": (100, 4)}
                figures = {name: self._median_load(port, *load) for name, load in loads.items()}
                memory = processes.total_memory(processes.family(process.pid))
            found.append({"workers": n, "start_to_ready_s": round(start_s, 3), **figures, "memory": memory})
        return found


def main() -> None:
    """Measure the four and write ``results/scaling.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=3, help="seconds of load for each figure")
    parser.add_argument("--only", nargs="*", help="batches, ids, fields, workers; writes no results")
    options = parser.parse_args()
    result: dict[str, Any] = {
        **conditions(),
        "load_generator": wrk.version(),
        "model": SERVED.describe(),
        "seconds": options.seconds,
        "not_measured": {},
    }
    with tempfile.TemporaryDirectory(prefix="ctrserve-benchmark-") as directory:
        bench = Bench(Path(directory), options.seconds)
        parts: dict[str, Callable[[], list[dict[str, Any]]]] = {
            "batches": bench.batches,
            "ids": bench.ids,
            "fields": bench.fields,
            "workers": bench.workers,
        }
        for name, measure in parts.items():
            if options.only and name not in options.only:
                continue
            try:
                result[name] = measure()
            except (NotStarted, RuntimeError, OSError) as error:
                result["not_measured"][name] = str(error)[-800:]
            for line in result.get(name, [result["not_measured"].get(name)]):
                print(name, line, flush=True)
    if not options.only:
        save("scaling", result)


if __name__ == "__main__":
    main()
