"""Compare training speed: ``python -m benchmarks.training --fuxictr VENV/bin/python --deepctr VENV/bin/python``.

Each library runs alone in a process of its own, with the same rows, model, batch size and threads. Peers need their own
environments: ``pip install fuxictr==2.3.10 polars==1.35.2`` and ``pip install deepctr-torch requests``. Libraries take turns,
``--repeats`` times; the best run of each is printed, all go into one JSON file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.conditions import RESULTS, SEED, conditions, save
from benchmarks.training.workload import EMBEDDING_DIM, NUM_CATEGORICAL, NUM_NUMERIC

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Run every combination and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--fuxictr", type=Path, help="python of an environment with FuxiCTR; left out: not compared")
    parser.add_argument("--deepctr", type=Path, help="python of an environment with deepctr-torch")
    parser.add_argument("--ids", type=int, nargs="+", default=[10_000, 100_000, 1_000_000, 10_000_000])
    parser.add_argument("--hidden", nargs="+", default=["128,64", "400,400,400"], help="widths, one model each")
    parser.add_argument("--rows", type=int, nargs="+", default=[400_000])
    parser.add_argument("--batch-size", type=int, default=4_096)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each run, after its warm-up (default 8)")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each (default 1)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    pythons = {"ctrserve": Path(sys.executable), "fuxictr": options.fuxictr, "deepctr": options.deepctr}
    runs, before = [], conditions(SEED, options.threads)
    for hidden, ids, rows in product(options.hidden, options.ids, options.rows):
        setting = {"rows_in_log": rows, "ids": ids, "hidden": [int(width) for width in hidden.split(",")]}
        best: dict[str, dict[str, Any]] = {}
        for _, (name, python) in product(range(options.repeats), pythons.items()):
            if python is None:
                continue
            run = setting | _run(name, python, setting, options)
            runs.append(run)
            best[name] = max(best.get(name, run), run, key=lambda run: float(run.get("rows_per_cpu_s", 0)))
        for name, run in best.items():
            speed = (
                f"{run.get('rows_per_cpu_s', 0):>9,.0f} rows/s of CPU, {run.get('cpu_ms_per_step', 0):6.1f} ms a step"
            )
            print(f"{hidden:>12} {ids:>10,} ids {rows:>9,} rows  {name:15} {speed} {run.get('error', '')}")
    document = {
        **before,
        "workload": {"categorical": NUM_CATEGORICAL, "numeric": NUM_NUMERIC, "embedding_dim": EMBEDDING_DIM},
        "batch_size": options.batch_size,
        "repeats": options.repeats,
        "seconds_per_run": options.seconds,
        "runs": runs,
    }
    print(save(f"training-{datetime.now(UTC):%Y%m%dT%H%M%S}", document, options.out))


def _run(name: str, python: Path, setting: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    command = [str(python), "-m", f"benchmarks.training.run_{name}", "--rows", str(setting["rows_in_log"])]
    command += ["--ids", str(setting["ids"]), "--hidden", *map(str, setting["hidden"])]
    command += ["--batch-size", str(options.batch_size), "--threads", str(options.threads)]
    command += ["--seconds", str(options.seconds)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(options.threads)}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if ran.returncode:
        return {"library": name, "error": (ran.stderr.strip().splitlines() or [f"exit {ran.returncode}"])[-1]}
    result: dict[str, Any] = json.loads(ran.stdout.strip().splitlines()[-1])  # a library may print before
    return result


if __name__ == "__main__":
    main()
