"""Compare training speed: ``python -m benchmarks.training --fuxictr VENV/bin/python --deepctr VENV/bin/python``.

Each library runs alone in a process of its own, with the same rows, model, batch size and threads. Peers need their own
environments: ``pip install fuxictr==2.3.10 polars==1.35.2`` and ``pip install deepctr-torch requests``. Libraries take turns,
``--repeats`` times; the best run of each is printed, all go into one JSON file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

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
    parser.add_argument(
        "--spread", type=int, nargs="*", default=[], help="then ctrserve in tables so many times larger"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    options = parser.parse_args()
    pythons = {"ctrserve": Path(sys.executable), "fuxictr": options.fuxictr, "deepctr": options.deepctr}
    runs, load = [], os.getloadavg()
    for hidden, ids, rows in product(options.hidden, options.ids, options.rows):
        setting = {"rows_in_log": rows, "ids": ids, "hidden": [int(w) for w in hidden.split(",")]}
        here = [
            setting | _run(name, python, setting, options)
            for _, (name, python) in product(range(options.repeats), pythons.items())
            if python is not None
        ]
        here += [
            setting | {"spread": spread} | _run("ctrserve", pythons["ctrserve"], setting, options, spread)
            for spread, _ in product(options.spread, range(options.repeats))
        ]
        runs += here
        for library, spread in dict.fromkeys((run["library"], run.get("spread", 1)) for run in here):
            of_it = [run for run in here if (run["library"], run.get("spread", 1)) == (library, spread)]
            best = max(of_it, key=lambda run: float(run.get("rows_per_cpu_s", 0)))
            name = f"{library} ×{spread}" if spread > 1 else library
            rate, step = best.get("rows_per_cpu_s", 0), best.get("cpu_ms_per_step", 0)
            print(
                f"{hidden:>12} {ids:>10,} ids {rows:>9,} rows  {name:15} {rate:>9,.0f} rows/s of CPU, {step:6.1f} ms a step "
                f"{best.get('error', '')}"
            )
    now = datetime.now(UTC)
    document = {
        "schema_version": 1,
        "date": now.isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "--short", "HEAD"),
        "dirty": bool(_git("status", "--porcelain", "--", "models", "benchmarks/training")),
        "machine": _machine(),
        "workload": {"categorical": 26, "numeric": 13, "embedding_dim": 16, "seed": 7},
        "batch_size": options.batch_size,
        "threads": options.threads,
        "load_average_before": load,
        "openblas": {name: value for name, value in os.environ.items() if name.startswith("OPENBLAS_")},
        "repeats": options.repeats,
        "seconds_per_run": options.seconds,
        "runs": runs,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"training-{now:%Y%m%dT%H%M%S}.json"
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(path)


def _run(
    name: str, python: Path | None, setting: dict[str, Any], options: argparse.Namespace, spread: int = 1
) -> dict[str, Any]:
    command = [str(python), "-m", f"benchmarks.training.run_{name}", "--rows", str(setting["rows_in_log"])]
    command += ["--ids", str(setting["ids"]), "--hidden", *map(str, setting["hidden"])]
    command += ["--batch-size", str(options.batch_size), "--threads", str(options.threads)]
    command += ["--seconds", str(options.seconds)]
    command += ["--spread", str(spread)] if spread > 1 else []
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(options.threads)}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if ran.returncode:
        return {"library": name, "error": (ran.stderr.strip().splitlines() or [f"exit {ran.returncode}"])[-1]}
    result: dict[str, Any] = json.loads(ran.stdout.strip().splitlines()[-1])  # a library may print before
    return result


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def _machine() -> dict[str, Any]:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {"cpu": names[0] if names else platform.processor(), "cores": os.cpu_count(), "system": platform.system()}


if __name__ == "__main__":
    main()
