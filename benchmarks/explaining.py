"""``python -m benchmarks.explaining``: how exact explanations are, what they cost, and what they cost requests that are scored.

Periods with and without a client that asks ``/explain`` all the time alternate, so that changes in the speed of the machine affect
both. The service has one core.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np

from benchmarks.conditions import SEED, conditions, save
from benchmarks.model import Shape, draw_ids, write_model
from benchmarks.overload import pin
from benchmarks.servers import ctrserve, free_port, running
from benchmarks.workload import Traffic, row_bodies
from models.artifact.artifact import load_artifact
from models.explanation.explainer import Explainer
from models.features.encoder import EncodedBatch

SHAPES = {
    "128-64": Shape(tokens_per_field=10_000, hidden=(128, 64), trained_rows=50_000),
    "400-400-400": Shape(tokens_per_field=10_000, trained_rows=50_000),
}
"""What training makes by default, and the wide model of the serving comparison."""
CHUNK = 1_000
ROWS = 100
JSON = {"content-type": "application/json"}


def residuals(artifacts: Path, shape: Shape, num_rows: int) -> dict[str, Any]:
    """Explain impressions drawn from the traffic; return the largest residual and the time of a row."""
    artifact = load_artifact(artifacts / "benchmark")
    explainer, rng = Explainer(artifact), np.random.default_rng(SEED)
    found: list[float] = []
    started = time.process_time()
    while len(found) < num_rows:
        ids = draw_ids(shape, artifact.encoder, min(CHUNK, num_rows - len(found)), rng)
        batch = EncodedBatch.single(ids.reshape(-1), ids.shape[1])
        found += [abs(e["residual"]) for e in explainer.explain(batch)]
    ms = 1_000 * (time.process_time() - started) / num_rows
    return {"rows": num_rows, "largest_residual": max(found), "ms_a_row": round(ms, 3)}


@contextmanager
def asking(url: str, body: bytes) -> Iterator[list[float]]:
    """Ask ``/explain`` all the time; yield the seconds that each answer took."""
    done, seconds = threading.Event(), list[float]()

    def ask() -> None:
        with httpx.Client(timeout=60) as client:
            while not done.is_set():
                started = time.perf_counter()
                client.post(f"{url}/explain", content=body, headers=JSON).raise_for_status()
                seconds.append(time.perf_counter() - started)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield seconds
    finally:
        done.set()
        thread.join()


def latencies(url: str, body: bytes, seconds: float) -> dict[str, float]:
    """Return percentiles, in milliseconds, of single-row requests that follow each other."""
    taken = []
    until = time.perf_counter() + seconds
    with httpx.Client() as client:
        while time.perf_counter() < until:
            started = time.perf_counter()
            client.post(f"{url}/predict", content=body, headers=JSON).raise_for_status()
            taken.append(1_000 * (time.perf_counter() - started))
    return {f"p{q}_ms": round(float(np.percentile(taken, q)), 3) for q in (50, 95, 99)}


def main() -> None:
    """Measure and write ``results/explaining.json``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.explaining", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000, help="explained by the smaller model (default 100,000)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4, help="of each period (default 4)")
    options = parser.parse_args()
    core = pin()
    result: dict[str, Any] = {**conditions(), "models": {}}
    for name, shape in SHAPES.items():
        with tempfile.TemporaryDirectory(prefix="ctrserve-benchmark-") as directory:
            root = Path(directory)
            artifacts = write_model(root, Traffic(1, shape).rows(64), shape)
            num_rows = options.rows if name == "128-64" else max(1, options.rows // 100)
            measured: dict[str, Any] = {"shape": shape.describe(), "exact": residuals(artifacts, shape, num_rows)}
            port = free_port()
            url, one = f"http://127.0.0.1:{port}", row_bodies(1, 1, shape=shape)[0]
            with running(ctrserve(artifacts, port, core=core), port, Traffic(1, shape).rows(1)[0], root / "log"):
                alone, beside, answers = [], [], list[float]()
                for _ in range(options.rounds):
                    alone.append(latencies(url, one, options.seconds))
                    with asking(url, row_bodies(ROWS, 1, shape=shape)[0]) as seconds:
                        beside.append(latencies(url, one, options.seconds))
                    answers += seconds
            measured |= {"alone": alone, "beside": beside, "answer_s": [round(s, 3) for s in answers]}
        result["models"][name] = measured
        middle = {q: [median(p[q] for p in periods) for periods in (alone, beside)] for q in alone[0]}
        print(
            f"{name}: largest residual {measured['exact']['largest_residual']:.1e} of {num_rows:,} rows, "
            f"{measured['exact']['ms_a_row']} ms a row; {ROWS} rows answered in {median(answers):.2f} s; /predict alone and beside: "
            + ", ".join(f"{q} {a:.2f} and {b:.2f}" for q, (a, b) in middle.items())
        )
    save("explaining", result)


if __name__ == "__main__":
    main()
