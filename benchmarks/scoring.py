"""Score a file beside posting its rows: ``python -m benchmarks.scoring [--rows 1000000] [--posted 20000]``.

Writes a Parquet log of 26 tokens and 13 numbers a row for the benchmark's model. ``ctrserve score`` reads, scores and writes it in a
process that has one thread. Then a client posts some of the rows to a service with one worker, so many in a request, and reads the
answers. Both are given by the clock and by the processor time of all processes that take part; the probabilities must be equal
to the bit. Writes JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl

from benchmarks.conditions import RESULTS, SEED, conditions, save
from benchmarks.model import draw_numbers, draw_positions, token, write_model
from benchmarks.processes import cpu_s, family
from benchmarks.servers import ctrserve, free_port, running
from benchmarks.workload import SERVED, Traffic
from ctrserve.client import Client

PAGES = (1_000, 100, 1)
"""Rows of a request."""
PAGES_AT_MOST = 2_000
PIECE = 100_000
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}


def main() -> None:
    """Measure both, print and save."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scoring", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--posted", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        artifacts = write_model(root, Traffic().rows(64), SERVED)
        write_log(root / "log.parquet", options.rows)
        scored = [score(root, artifacts) for _ in range(options.repeats)]
        posted = [
            post(root, artifacts, min(options.posted, options.rows, PAGES_AT_MOST * page), page) for page in PAGES
        ]
        found = pl.read_parquet(root / "scores.parquet")["probability"].to_list()
    for run in posted:
        assert found[: run["rows"]] == run.pop("probabilities"), "a scored file must equal what the service answers"
    best = min(scored, key=lambda run: run["cpu_seconds"])
    for name, run in (("a file", best), *((f"posted by {run['page']:,}", run) for run in posted)):
        wall, cpu = (run["rows"] / run[kind] for kind in ("seconds", "cpu_seconds"))
        ratio = best["rows"] / best["cpu_seconds"] / cpu
        print(
            f"{name:16} {wall:10,.0f} rows/s {cpu:10,.0f} rows per second of processor time; a file has {ratio:.1f} times that"
        )
    result = {"model": SERVED.describe(), "scored": scored, "posted": posted}
    print(save("scoring", {**conditions(), **result}, options.out))


def write_log(path: Path, num_rows: int) -> None:
    """Write a log without labels, its rows as the benchmarks' requests have them."""
    rng = np.random.default_rng(SEED)
    tokens = pl.Series([*(token(i) for i in range(SERVED.tokens_per_field)), "never seen"])
    pieces = []
    for first in range(0, num_rows, PIECE):
        n = min(PIECE, num_rows - first)
        at, numbers = draw_positions(SERVED, n, rng), draw_numbers(SERVED, n, rng)
        at[at < 0] = len(tokens) - 1
        columns = {f"C{i}": tokens.gather(at[:, i]) for i in range(SERVED.num_categorical)}
        columns |= {f"I{i}": pl.Series(numbers[:, i]) for i in range(SERVED.num_numeric)}
        pieces.append(pl.DataFrame(columns))
    pl.concat(pieces).write_parquet(path, row_group_size=PIECE)


def score(root: Path, artifacts: Path) -> dict[str, float]:
    """Run ``ctrserve score`` in a process of its own; starting it and verifying the artifact are not counted."""
    code = (
        "import json, resource, sys, time\n"
        "from pathlib import Path\n"
        "from models.artifact.artifact import load_artifact\n"
        "from models.pipeline.scoring import score_log\n"
        "artifact, log, out = map(Path, sys.argv[1:])\n"
        "model = load_artifact(artifact)\n"
        "started, cpu = time.perf_counter(), time.process_time()\n"
        "found = score_log(model, [str(log)], out, [], lambda done, total: None)\n"
        "seconds, cpu = time.perf_counter() - started, time.process_time() - cpu\n"
        "found.parts.remove()\n"
        "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "print(json.dumps({'rows': found.rows, 'seconds': seconds, 'cpu_seconds': cpu, 'peak_memory_bytes': peak}))\n"
    )
    arguments = [str(artifacts / "benchmark"), str(root / "log.parquet"), str(root / "scores.parquet")]
    ran = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | ONE_THREAD,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(ran.stdout)
    return found


def post(root: Path, artifacts: Path, num_rows: int, size: int) -> dict[str, Any]:
    """Post the first rows of the log, ``size`` in a request, as somebody would who has only the service."""
    port = free_port()
    system = ctrserve(artifacts, port)
    probabilities: list[float] = []
    with running(system, port, Traffic().rows(1)[0], root / "service.log") as (process, _):
        url, before = f"http://127.0.0.1:{port}", cpu_s(family(process.pid))
        with Client(url, transport=httpx.HTTPTransport()) as client:
            started, cpu = time.perf_counter(), time.process_time()
            frame = pl.scan_parquet(root / "log.parquet").head(num_rows)
            for piece in frame.collect_batches(chunk_size=PIECE, maintain_order=True):
                for page in piece.iter_slices(size):
                    probabilities += client.predict(page.to_dicts()).probabilities
            seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        cpu += cpu_s(family(process.pid)) - before
    return {
        "page": size,
        "rows": len(probabilities),
        "seconds": seconds,
        "cpu_seconds": cpu,
        "probabilities": probabilities,
    }


if __name__ == "__main__":
    main()
