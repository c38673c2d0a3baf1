"""``python -m benchmarks.guards``: what the guards of the hot path cost, with keys and quotas on, against the same path without any.

Both servers are up at once and asked in turn, so that the machine's moods meet both.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
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
        bare = free_port()
        command = [sys.executable, "-m", "benchmarks.unguarded", str(bare), str(artifacts)]
        unguarded = System("unguarded", command, "ours", directory=PRODUCT)
        # The keys are for the load alone; the service is asked once without any to see that it is up.
        port = free_port()
        guarded = ctrserve(artifacts, port, keys=keys)
        with (
            running(unguarded, bare, example[0], root / "bare.log"),
            running(guarded, port, example[0], root / "log", key=SECRET),
        ):
            for connections in CONNECTIONS:
                found: dict[str, list[float]] = {"guarded": [], "unguarded": []}
                for _ in range(options.rounds):
                    for name, at in (("guarded", port), ("unguarded", bare)):
                        one = wrk.load(at, "/predict", root / "load.lua", connections, options.seconds)
                        if one["errors"]:
                            raise SystemExit(f"{name}: {one}")
                        found[name].append(one["requests_per_s"])
                ratios = [g / u for g, u in zip(found["guarded"], found["unguarded"], strict=True)]
                result[f"single@{connections}"] = {**found, "median_ratio": round(median(ratios), 4)}
                print(
                    f"{connections:3} connections: {median(found['guarded']):.0f} guarded, {median(found['unguarded']):.0f} "
                    f"unguarded requests/s, ratio {median(ratios):.3f} ({min(ratios):.3f}–{max(ratios):.3f})",
                    flush=True,
                )
    save("guards", result)


if __name__ == "__main__":
    main()
