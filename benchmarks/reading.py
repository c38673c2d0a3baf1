"""Time reading: text → ids of 39 columns: ``python -m benchmarks.reading [--rows 500000] [--repeats 3]``.

Simulates a Criteo-like TSV (13 whole numbers with nulls, 26 tokens of 8 letters, skewed), reads it as training does and
prints the seconds of each stage, of the repeat that took least: on the clock, and of processor time. Writes JSON.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import deque
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl

from benchmarks.conditions import RESULTS, conditions, save
from benchmarks.training.workload import NUM_CATEGORICAL, NUM_NUMERIC, rows
from models.data.chunk_encoder import ChunkEncoder
from models.data.fitting import fit_encoder
from models.data.impressions import read_chunks
from models.data.token_log import TokenLog
from models.schema.feature_schema import FeatureSchema, load_schema

T = TypeVar("T")
SCHEMA = Path(__file__).parents[1] / "examples" / "criteo.toml"
STAGES = ("parse and code", "count, bins, vocabularies", "code → table row", "encode")


def main() -> None:
    """Write a log, read it several times, print and save the times of the fastest reading."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reading", description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--ids", type=int, default=2_300_000, help="that the tokens are drawn from")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.tsv"
        write_log(path, options.rows, options.ids)
        size = path.stat().st_size
        schema = load_schema(SCHEMA)
        readings = [read(path, schema) for _ in range(options.repeats)]
    best = min(readings, key=lambda reading: reading["seconds"])
    for stage in (*STAGES, "all"):
        seconds, cpu = (
            best[kind] if stage == "all" else best["stages"][stage][kind] for kind in ("seconds", "cpu_seconds")
        )
        print(f"{stage:26} {seconds:6.2f} s ({cpu:.2f} s of processor time)")
    print(
        f"{options.rows / best['seconds']:,.0f} rows/s; {options.rows / best['cpu_seconds']:,.0f} per second of processor time"
    )
    found = {
        "log": {"rows": options.rows, "ids": options.ids, "bytes": size},
        "compiled": find_spec("models._native") is not None,
        "polars": {"version": pl.__version__, "threads": pl.thread_pool_size()},
        "readings": readings,
    }
    print(save("reading", {**conditions(), **found}, options.out))


def write_log(path: Path, num_rows: int, num_ids: int) -> None:
    """Write a TSV without a header in the columns of ``examples/criteo.toml``."""
    ids, numbers, labels = rows(num_rows, num_ids)
    frame = {"label": pl.Series(labels.astype(np.int8))}
    for i in range(NUM_NUMERIC):
        counts = pl.Series(np.floor(10 ** (3 * numbers[:, i]) - 1).astype(np.int32))
        frame[f"I{i + 1}"] = counts.set(pl.Series(numbers[:, (i + 1) % NUM_NUMERIC] < 0.1), None)
    for i in range(NUM_CATEGORICAL):
        spelled = (ids[:, i].astype(np.uint64) * np.uint64(0x9E3779B1) + np.uint64(i * 0x85EBCA77)) & np.uint64(
            0xFFFFFFFF
        )
        distinct, at = np.unique(spelled, return_inverse=True)
        frame[f"C{i + 1}"] = pl.Series([f"{token:08x}" for token in distinct.tolist()]).gather(at)
    pl.DataFrame(frame).write_csv(path, separator="\t", include_header=False)


def read(path: Path, schema: FeatureSchema) -> dict[str, Any]:
    """Read the log once; return the seconds of each stage and the sizes."""
    stages: dict[str, dict[str, float]] = {}

    def timed(stage: str, work: Callable[[], T]) -> T:
        started, cpu = time.perf_counter(), time.process_time()
        result = work()
        stages[stage] = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu}
        return result

    log = TokenLog(schema)
    timed(STAGES[0], lambda: deque(map(log.append, read_chunks([str(path)], schema)), maxlen=0))
    encoder = timed(STAGES[1], lambda: fit_encoder(log, np.arange(log.num_rows)))
    chunk_encoder = timed(STAGES[2], lambda: ChunkEncoder(encoder, log))
    packed = timed(STAGES[3], lambda: [chunk_encoder.encode(chunk) for chunk in log.drain()])
    return {
        "rows": sum(map(len, packed)),
        "distinct_tokens": sum(len(d) - 1 for d in log.indexes.values()),
        "table_rows": encoder.num_rows,
        "stages": stages,
        **{kind: sum(s[kind] for s in stages.values()) for kind in ("seconds", "cpu_seconds")},
    }


if __name__ == "__main__":
    main()
