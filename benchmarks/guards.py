"""``python -m benchmarks.guards``: what the guards of the hot path cost, with keys and quotas on, against the same path without any.

All servers are up at once and asked in turn, so that the machine's moods meet all of them.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import wrk
from benchmarks.conditions import conditions, save
from benchmarks.model import write_model
from benchmarks.servers import PRODUCT, System, ctrserve, free_port, running
from benchmarks.workload import SERVED, Traffic, row_bodies

SECRET = "g" * 43
CONNECTIONS = (1, 16)


def main() -> None:
    """Measure and write ``results/guards.json``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guards", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=3, help="of each load (default 3)")
    options = parser.parse_args()
    result: dict[str, Any] = {**conditions(), "load_generator": wrk.version(), "model": SERVED.describe()}
    with tempfile.TemporaryDirectory(prefix="ctrserve-benchmark-") as directory:
        root = Path(directory)
        example = Traffic(1).rows(64)
        artifacts = write_model(root, example, SERVED)
        keys = root / "keys"
        keys.write_text(f"bidder predict {hashlib.sha256(SECRET.encode()).hexdigest()} 1000000\n")
        wrk.write_lua(root / "load.lua", row_bodies(1, 500), {"X-API-Key": SECRET})
        port = free_port()
        systems = {
            "guarded": (port, ctrserve(artifacts, port, keys=keys)),
            "unguarded": _without(artifacts, "unguarded"),
            "bare": _without(artifacts, "bare"),
        }
        with ExitStack() as stack:
            for name, (at, system) in systems.items():
                stack.enter_context(running(system, at, example[0], root / name, key=SECRET))
            for connections in CONNECTIONS:
                found: dict[str, list[float]] = {name: [] for name in systems}
                for _ in range(options.rounds):
                    for name, (at, _) in systems.items():
                        one = wrk.load(at, "/predict", root / "load.lua", connections, options.seconds)
                        if one["errors"]:
                            raise SystemExit(f"{name}: {one}")
                        found[name].append(one["requests_per_s"])
                ratios = {
                    name: median(g / u for g, u in zip(found["guarded"], found[name], strict=True))
                    for name in ("unguarded", "bare")
                }
                result[f"single@{connections}"] = {**found, "median_ratio_to": ratios}
                rates = ", ".join(f"{median(rates):.0f} {name}" for name, rates in found.items())
                print(
                    f"{connections:3} connections, requests/s: {rates}; guarded is {ratios['unguarded']:.3f} of unguarded "
                    f"and {ratios['bare']:.3f} of bare",
                    flush=True,
                )
    save("guards", result)


def _without(artifacts: Path, what: str) -> tuple[int, System]:
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.unguarded", str(port), str(artifacts)]
    return port, System(what, command if what == "unguarded" else [*command, what], "ours", directory=PRODUCT)


if __name__ == "__main__":
    main()
