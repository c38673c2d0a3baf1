"""``python -m benchmarks.stages``: what each stage of ``/predict`` costs, by calling the product's own functions in-process.

Each stage is timed by itself on what the stage before it made, over distinct requests; ``whole`` is the handler from
bytes to bytes, ``rest`` what of it no stage accounts for (notes, metrics, the event loop's turn).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import orjson

from app.main import source_factory
from app.observability.metrics import Telemetry
from app.registry.registry import Registry
from app.registry.rollback import RollbackFile
from app.scoring.catalog import CatalogFile
from app.scoring.micro_batcher import Batcher
from app.scoring.predict import predict, read
from app.scoring.served_model import ServedModel
from app.settings import Settings
from benchmarks.conditions import conditions, save
from benchmarks.markdown import STAGES
from benchmarks.model import write_model
from benchmarks.workload import SERVED, Traffic, column_bodies, row_bodies
from models.network.predictor import pool

S = TypeVar("S")
BATCHES = (1, 100, 1_000)
NUM_BODIES = {1: 400, 100: 40, 1_000: 8}


def time_calls(call: Callable[[S], object], inputs: Sequence[S], seconds: float) -> dict[str, float]:
    """Call with one input after the other for ``seconds``; return quantiles of a call's microseconds."""
    for one in inputs:
        call(one)
    clock, samples, end = time.perf_counter_ns, [], time.perf_counter() + seconds
    for one in cycle(inputs):
        started = clock()
        call(one)
        samples.append(clock() - started)
        if time.perf_counter() > end and len(samples) >= 20:
            break
    p10, p50, p90 = np.quantile(samples, [0.1, 0.5, 0.9]) / 1e3
    return {"p10_us": round(p10, 2), "p50_us": round(p50, 2), "p90_us": round(p90, 2), "calls": len(samples)}


def open_snapshot(artifacts: Path, telemetry: Telemetry, loop: asyncio.AbstractEventLoop) -> ServedModel:
    """Load the artifact as a worker without Redis does."""
    settings = Settings(artifacts=artifacts)

    open_source = source_factory(settings, telemetry, None)
    registry = Registry(artifacts, open_source, settings.max_rows, CatalogFile(None), RollbackFile(None), telemetry)
    loop.run_until_complete(registry.refresh())
    assert registry.current is not None, registry.last_error
    return registry.current


def measure(
    snapshot: ServedModel,
    bodies: Sequence[bytes],
    seconds: float,
    telemetry: Telemetry,
    loop: asyncio.AbstractEventLoop,
) -> dict[str, Any]:
    """Return every stage's time on these requests."""
    predictor, source = snapshot.artifact.predictor, snapshot.source
    version = snapshot.artifact.model_version
    batches = [read(snapshot, body)[0].batch for body in bodies]
    rows = [source.fetch_now(b.ids) for b in batches]
    fetched = [(b, r) for b, r in zip(batches, rows, strict=True) if r is not None]
    logits = [predictor.logits(b, r) for b, r in fetched]
    probabilities = [predictor.probabilities(z) for z in logits]
    found: dict[str, Any] = {
        "read": time_calls(lambda body: read(snapshot, body), bodies, seconds),
        "gather": time_calls(lambda b: source.fetch_now(b.ids), batches, seconds),
        "head": time_calls(lambda both: predictor.head.logits(pool(*both)), fetched, seconds),
        "calibrate": time_calls(predictor.probabilities, logits, seconds),
        "dump": time_calls(
            lambda p: orjson.dumps({"predictions": p, "model_version": version}, option=orjson.OPT_SERIALIZE_NUMPY),
            probabilities,
            seconds,
        ),
    }
    batcher = Batcher()

    async def whole(for_s: float) -> dict[str, float]:
        clock, samples, end = time.perf_counter_ns, [], time.perf_counter() + for_s
        for body in cycle(bodies):
            started = clock()
            await predict(snapshot, body, batcher, telemetry)
            samples.append(clock() - started)
            await asyncio.sleep(0)  # a turn of the loop: the next request is one of its own
            if time.perf_counter() > end and len(samples) >= 20:
                break
        p10, p50, p90 = np.quantile(samples, [0.1, 0.5, 0.9]) / 1e3
        return {"p10_us": round(p10, 2), "p50_us": round(p50, 2), "p90_us": round(p90, 2), "calls": len(samples)}

    found["whole"] = loop.run_until_complete(whole(2 * seconds))
    rest = found["whole"]["p50_us"] - sum(found[stage]["p50_us"] for stage in STAGES)
    found["rest_us"] = round(rest, 2)
    return found


def main() -> None:
    """Measure batches of 1, 100 and 1000, as rows and as columns; write ``results/stages.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="seconds for each figure")
    options = parser.parse_args()
    result: dict[str, Any] = {**conditions(), "model": SERVED.describe(), "rows": {}, "columns": {}}
    loop = asyncio.new_event_loop()
    with tempfile.TemporaryDirectory(prefix="ctrserve-benchmark-") as directory:
        artifacts = write_model(Path(directory), Traffic(seed=1).rows(64), SERVED)
        telemetry = Telemetry()
        snapshot = open_snapshot(artifacts, telemetry, loop)
        for n in BATCHES:
            for form, make in (("rows", row_bodies), ("columns", column_bodies)):
                found = measure(snapshot, make(n, NUM_BODIES[n]), options.seconds, telemetry, loop)
                result[form][str(n)] = found
                shown = " ".join(f"{stage} {found[stage]['p50_us']:.0f}" for stage in (*STAGES, "whole"))
                print(f"{n:5} {form:8} µs: {shown} rest {found['rest_us']:.0f}", flush=True)
    loop.close()
    save("stages", result)


if __name__ == "__main__":
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    if not one_thread.items() <= os.environ.items():  # as a worker has; libraries read it when they are loaded
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **one_thread})
    main()
