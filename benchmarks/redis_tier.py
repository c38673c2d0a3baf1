"""``python -m benchmarks.redis_tier``: the Redis tier with a table ten times ``CTR_HOT_BYTES`` and Zipf-distributed traffic.

Measured at the same offered load, without repeated requests: without Redis; with the packaged Valkey while it fills, after
traffic of another seed; and with all rows in it, as after a day.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from redis import Redis

from app.demo.embedded_redis import open_embedded_redis
from app.embeddings.row_codec import RowCodec
from benchmarks import open_loop, wrk
from benchmarks.conditions import SEED, conditions, save
from benchmarks.model import VERSION, write_model
from benchmarks.servers import ctrserve, free_port, running
from benchmarks.workload import SERVED, Traffic, row_bodies
from models.artifact.artifact import load_artifact

TABLE_BYTES = SERVED.num_ids * 4 * (SERVED.embedding_dim + 1)
HOT_BYTES = TABLE_BYTES // 10
# Rows in a request → requests per second.
LOADS = {1: 400.0, 100: 40.0}
FILL_ROWS = 40_000
ROWS_TO_FILL_WITH = 50
ROWS_PER_WRITE = 5_000
FILL_DEADLINE_S = 90.0
CONNECTIONS = 8
CLOSED_BODIES = 4_000
CLOSED_S = 3


def counters(port: int, name: str) -> dict[str, float]:
    """Return a counter of ``/metrics``, by the value of its label."""
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
    return parse_counter(text, name)


def parse_counter(text: str, name: str) -> dict[str, float]:
    r"""Return the samples of a counter with one label, by the value of the label.

    >>> parse_counter('# x\nrows_total{tier="hot"} 3.0\nrows_total{tier="table"} 1.0\n', "rows_total")
    {'hot': 3.0, 'table': 1.0}
    """
    return {label: float(value) for label, value in re.findall(rf'^{name}{{\w+="(\w+)"}} (\S+)$', text, re.MULTILINE)}


def shares(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Return the share of each label in the increase between two readings.

    >>> shares({"hot": 1.0}, {"hot": 4.0, "table": 1.0})
    {'hot': 0.75, 'table': 0.25}
    >>> shares({}, {"hot": 0.0})
    {}
    """
    grown = {label: value - before.get(label, 0.0) for label, value in after.items()}
    total = sum(grown.values())
    return {label: round(value / total, 5) for label, value in grown.items()} if total else {}


def fill(port: int) -> None:
    """Send traffic of another seed until it adds no more rows; the service may drop writes when it is busy."""
    bodies = row_bodies(ROWS_TO_FILL_WITH, FILL_ROWS // ROWS_TO_FILL_WITH, seed=SEED + 10)
    written, deadline = 0.0, time.monotonic() + FILL_DEADLINE_S
    with httpx.Client(timeout=30, headers={"content-type": "application/json"}) as client:
        while time.monotonic() < deadline:
            for body in bodies:
                client.post(f"http://127.0.0.1:{port}/predict", content=body).raise_for_status()
            time.sleep(1.0)  # for the last writes
            now = counters(port, "ctr_redis_writes_total").get("ok", 0.0)
            if now - written <= 0.01 * now:
                return
            written = now


def write_all(url: str, artifacts: Path) -> None:
    """Write every row of the table to Redis, in the format of the service."""
    artifact = load_artifact(artifacts / VERSION)
    codec = RowCodec(artifact.manifest.table_digest, artifact.table.shape[1])
    with Redis.from_url(url, protocol=2) as client:
        for start in range(0, len(artifact.table), ROWS_PER_WRITE):
            ids = np.arange(start, min(start + ROWS_PER_WRITE, len(artifact.table)))
            client.mset(dict(zip(codec.keys(ids), codec.encode(ids, artifact.table[ids]), strict=True)))


def measure(port: int, seconds: float) -> dict[str, Any]:
    """Return latencies and the shares of tiers and outcomes, by rows in a request."""
    found = {}
    for n, rate in LOADS.items():
        bodies = row_bodies(n, int(rate * seconds), seed=SEED + 20 + n)
        tiers, outcomes = "ctr_embedding_rows_total", "ctr_redis_lookups_total"
        before = {name: counters(port, name) for name in (tiers, outcomes)}
        run = open_loop.run(
            port,
            "/predict",
            bodies,
            rate=rate,
            seconds=seconds,
            connections=CONNECTIONS,
            arrivals="fixed",
            seed=SEED,
        )
        found[f"{n} rows"] = {
            **run,
            "tiers": shares(before[tiers], counters(port, tiers)),
            "redis_outcomes": shares(before[outcomes], counters(port, outcomes)),
        }
    return found


def measure_most(port: int, root: Path) -> dict[str, Any]:
    """Return the figures of closed loops of single rows, by number of connections."""
    script = root / "load.lua"
    wrk.write_lua(script, row_bodies(1, CLOSED_BODIES, seed=SEED + 30))
    wrk.load(port, "/predict", script, 1, 1)
    return {f"1 row @{n}": wrk.load(port, "/predict", script, n, CLOSED_S) for n in (1, 16, 64)}


def main() -> None:
    """Measure with and without Redis; write ``results/redis_tier.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=15.0, help="seconds of load for each figure")
    options = parser.parse_args()
    result: dict[str, Any] = {
        **conditions(),
        "model": SERVED.describe(),
        "table_bytes": TABLE_BYTES,
        "hot_bytes": HOT_BYTES,
        "filled_with_rows": FILL_ROWS,
    }
    example = Traffic(2).rows(1)[0]
    with tempfile.TemporaryDirectory(prefix="ctrserve-benchmark-") as directory:
        root, port = Path(directory), free_port()
        artifacts = write_model(root, Traffic(1).rows(64), SERVED)
        with running(ctrserve(artifacts, port, hot_bytes=HOT_BYTES), port, example, root / "log"):
            fill(port)  # the same warm-up as with Redis
            result["without_redis"] = measure(port, options.seconds)
            result["closed_loop"] = {"without_redis": measure_most(port, root)}
        with (
            open_embedded_redis(root / "redis") as redis,
            running(ctrserve(artifacts, port, hot_bytes=HOT_BYTES, redis_url=redis.url), port, example, root / "log"),
        ):
            fill(port)
            result["redis_filling"] = measure(port, options.seconds)
            result["redis_writes"] = counters(port, "ctr_redis_writes_total")
            write_all(redis.url, artifacts)
            result["redis_full"] = measure(port, options.seconds)
            result["closed_loop"]["redis_full"] = measure_most(port, root)
    for name in ("without_redis", "redis_filling", "redis_full"):
        for load, found in result[name].items():
            print(
                f"{name:14} {load:9} {found['from_due']} tiers {found['tiers']} {found['redis_outcomes']}", flush=True
            )
    save("redis_tier", result)


if __name__ == "__main__":
    main()
