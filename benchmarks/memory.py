"""``python -m benchmarks.memory``: memory of the first and of further workers with a table of 1 GB, and the time to start.

Memory is read from ``/proc/<pid>/smaps_rollup`` of the service's processes. RSS counts shared pages in each process; PSS divides
them among the processes, so that the sum of PSS is the memory of the machine that is used.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import processes, wrk
from benchmarks.conditions import conditions, save
from benchmarks.model import Shape, write_model
from benchmarks.servers import NotStarted, ctrserve, free_port, running
from benchmarks.workload import SERVED, Traffic, row_bodies

MIB = 2**20
ROW_BYTES = 4 * (SERVED.embedding_dim + 1)
GIGABYTE = Shape(tokens_per_field=10**9 // ROW_BYTES // SERVED.num_categorical, trained_rows=0)
TEN_MILLION = Shape(tokens_per_field=10**7 // SERVED.num_categorical, trained_rows=0)
WORKERS = (1, 2, 3)
HOT_BYTES = (256 * MIB, 64 * MIB, 0)
LOAD_S = 5


def measure_workers(root: Path, artifacts: Path, shape: Shape, workers: int, hot_bytes: int) -> dict[str, Any]:
    """Start workers, load them, and return the memory of each process and the sums."""
    port, script = free_port(), root / "load.lua"
    wrk.write_lua(script, row_bodies(100, 200, shape=shape))
    server = ctrserve(artifacts, port, workers=workers, hot_bytes=hot_bytes)
    with running(server, port, Traffic(2, shape).rows(1)[0], root / "log") as (process, start_s):
        time.sleep(2 * (workers - 1))  # until the other workers are ready
        wrk.load(port, "/predict", script, 8 * workers, LOAD_S)  # so that every worker has touched its pages
        pids = processes.family(process.pid)
        each = [processes.total_memory([pid]) for pid in pids]
        found = {"workers": workers, "hot_bytes": hot_bytes, "start_to_ready_s": round(start_s, 3)}
        return {**found, "total": processes.total_memory(pids), "processes": each}


def time_starts(root: Path, artifacts: Path, shape: Shape, times: int) -> list[float]:
    """Return the seconds from starting the process to its first answer, for several starts."""
    found = []
    for _ in range(times):
        port = free_port()
        with running(ctrserve(artifacts, port), port, Traffic(2, shape).rows(1)[0], root / "log") as (_, start_s):
            found.append(round(start_s, 3))
    return found


def main() -> None:
    """Measure and write ``results/memory.json``."""
    result: dict[str, Any] = {**conditions(), "load_generator": wrk.version(), "not_measured": {}}
    with tempfile.TemporaryDirectory(prefix="ctrserve-benchmark-") as directory:
        root = Path(directory)
        try:
            artifacts = write_model(root, Traffic(1, TEN_MILLION).rows(64), TEN_MILLION)
            starts = time_starts(root, artifacts, TEN_MILLION, 3)
            result["start_to_ready"] = {"model": TEN_MILLION.describe(), "seconds": starts}
            print(f"start to ready, {TEN_MILLION.num_ids} ids: {starts} s", flush=True)
        except (NotStarted, RuntimeError, OSError) as error:
            result["not_measured"]["start_to_ready"] = str(error)[-800:]
        artifacts = write_model(root, Traffic(1, GIGABYTE).rows(64), GIGABYTE)
        result["model"] = GIGABYTE.describe()
        result["table_bytes"] = GIGABYTE.num_ids * ROW_BYTES
        result["workers"] = []
        for hot_bytes in HOT_BYTES:
            for workers in WORKERS:
                try:
                    found = measure_workers(root, artifacts, GIGABYTE, workers, hot_bytes)
                except (NotStarted, RuntimeError, OSError) as error:
                    result["not_measured"][f"{workers} workers, {hot_bytes} hot bytes"] = str(error)[-800:]
                    continue
                result["workers"].append(found)
                sizes = {name: f"{value / MIB:.0f} MiB" for name, value in found["total"].items()}
                print(f"{workers} workers, {hot_bytes // MIB} MiB hot: {sizes}", flush=True)
    print(result["not_measured"] or "")
    save("memory", result)


if __name__ == "__main__":
    main()
