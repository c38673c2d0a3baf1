"""``python -m benchmarks.overload``: an open loop at three times the capacity of the service.

The service has one core, the clients the other. Closed loops of wrk, which measure the capacity, and overloaded periods
alternate, so that changes in the speed of the machine affect both.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import open_loop, wrk
from benchmarks.conditions import SEED, conditions, save
from benchmarks.model import write_model
from benchmarks.servers import ctrserve, free_port, running
from benchmarks.workload import SERVED, Traffic, row_bodies

ROWS = 100
MAX_WAITING = 16
CONNECTIONS = 128
"""More than may wait, so that admission and not the number of connections is the limit."""
TIMES = 3.0


def pin() -> int:
    """Pin this process and its clients to the last core; return the first one, for the service.

    Raises:
        SystemExit: there is only one core.
    """
    first, *others = sorted(os.sched_getaffinity(0))
    if not others:
        raise SystemExit("needs two cores: one for the service, one for its clients")
    os.sched_setaffinity(0, {others[-1]})
    return first


def main() -> None:
    """Measure and write ``results/overload.json``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=int, default=5, help="of each period (default 5)")
    options = parser.parse_args()
    core = pin()
    result: dict[str, Any] = {**conditions(), "load_generator": wrk.version(), "model": SERVED.describe()}
    result |= {"rows": ROWS, "max_waiting": MAX_WAITING}
    bodies = row_bodies(ROWS, 50)
    with tempfile.TemporaryDirectory(prefix="ctrserve-benchmark-") as directory:
        root = Path(directory)
        artifacts = write_model(root, Traffic(1).rows(64), SERVED)
        wrk.write_lua(root / "load.lua", bodies)
        port = free_port()
        system = ctrserve(artifacts, port, core=core, max_waiting=MAX_WAITING)
        with running(system, port, Traffic(1).rows(1)[0], root / "log"):
            peaks, overloaded = [], []
            for n in range(options.rounds):
                peaks.append(wrk.load(port, "/predict", root / "load.lua", MAX_WAITING // 2, options.seconds))
                rate = TIMES * median(one["requests_per_s"] for one in peaks)
                overloaded.append(
                    open_loop.run(
                        port,
                        "/predict",
                        bodies,
                        rate=rate,
                        seconds=options.seconds,
                        connections=CONNECTIONS,
                        arrivals="poisson",
                        seed=SEED + n,
                    )
                )
    ratio = median(o["achieved_rps"] / p["requests_per_s"] for o, p in zip(overloaded, peaks, strict=True))
    kinds = {kind for one in overloaded for kind in one["errors_by_kind"]}
    result |= {"peaks": peaks, "overloaded": overloaded, "goodput_ratio": round(ratio, 3)}
    print(
        f"peak {median(p['requests_per_s'] for p in peaks):.0f}/s (p99 {median(p['p99_ms'] for p in peaks):.0f} ms), offered "
        f"{median(o['offered_rps'] for o in overloaded):.0f}/s: good {median(o['achieved_rps'] for o in overloaded):.0f}/s, "
        f"{ratio:.2f} of the peak; of the accepted p50 {median(o['from_sent']['p50_ms'] for o in overloaded):.0f} ms and p99 "
        f"{median(o['from_sent']['p99_ms'] for o in overloaded):.0f} ms from sending; all others: {sorted(kinds)}"
    )
    save("overload", result)


if __name__ == "__main__":
    main()
