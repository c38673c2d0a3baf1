"""``python -m benchmarks.serving --peers DIR``: servers with the same model on the same machine, each compared with ctrserve.

Each has one worker process and one thread for mathematics; the load comes from one thread on the same machine. Before anything is
timed, each system must give the same probabilities for 64 rows, asked together and one by one. Then come closed loops by wrk, and
an open loop at 70 % of the system's best rate. Systems that do not start are reported.

ctrserve keeps running and is loaded just before each figure of another system, so that both are measured at the same speed of
the machine. Needs ``wrk`` and the peers that ``python -m benchmarks.install_peers`` installs.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks import open_loop, processes, wrk
from benchmarks.conditions import SEED, conditions, save
from benchmarks.install_peers import PEERS
from benchmarks.markdown import BESIDE
from benchmarks.model import write_model
from benchmarks.servers import PRODUCT, NotStarted, Row, System, ask, body_of, ctrserve, free_port, running
from benchmarks.systems import peer_versions, systems
from benchmarks.workload import SERVED, Traffic, column_bodies, rank_bodies, write_catalog

TOLERANCE = 1e-4
SHARE_OF_CAPACITY = 0.7
WARM_UP_S = 1
BUDGET_S = 30 * 60  # after which no further system is begun
# Name → rows in a request, connections.
SCENARIOS: Mapping[str, tuple[int, int]] = {
    "1 row @1": (1, 1),
    "1 row @16": (1, 16),
    "1 row @64": (1, 64),
    "100 rows @1": (100, 1),
    "1000 rows @1": (1_000, 1),
}
SHOWN = ("requests_per_s", "p50_ms", "p99_ms", "server_us_per_request", "errors")
NUM_BODIES = {1: 400, 100: 40, 1_000: 10}


def check(system: System, port: int, rows: Sequence[Row], expected: Sequence[float]) -> float:
    """Return the largest difference from ``expected``, asked in one request and, concurrently, row by row.

    Raises:
        NotStarted: it is larger than `TOLERANCE`.
    """
    with httpx.Client(timeout=30.0) as client, ThreadPoolExecutor(8) as pool:
        together = ask(system, port, rows, client)
        singly = [p for found in pool.map(lambda row: ask(system, port, [row], client), rows) for p in found]
    differences = [abs(a - b) for found in (together, singly) for a, b in zip(found, expected, strict=True)]
    if not max(differences) <= TOLERANCE:
        raise NotStarted(f"answers differ by {max(differences):.2g}")
    return max(differences)


@dataclass(frozen=True)
class Load:
    """Requests of a scenario and the number of connections."""

    path: str
    bodies: Sequence[bytes]
    connections: int


@dataclass(frozen=True)
class Subject:
    """A running system and its requests, by scenario."""

    system: System
    port: int
    pid: int
    loads: Mapping[str, Load]


class Comparison:
    """Measures systems, each together with ctrserve.

    Args:
        root: directory of the model and of the files that systems write.
        seconds: of load for each figure.
        open_s: seconds of open loop for ctrserve.
    """

    def __init__(self, root: Path, seconds: int, open_s: int) -> None:
        self._root = root
        self._seconds = seconds
        self._open_s = open_s
        self._rows = Traffic(seed=3).rows(64)
        traffic = Traffic(seed=SEED)
        self._requests = {n: [traffic.rows(n) for _ in range(count)] for n, count in NUM_BODIES.items()}
        self._expected: list[float] = []
        self._ours: Subject | None = None

    @contextmanager
    def beside(self, ours: System, port: int) -> Iterator[dict[str, Any]]:
        """Keep ctrserve running; yield its own figures."""
        with self._started(ours, port) as (subject, found):
            self._ours = subject
            yield found

    def measure(self, system: System, port: int) -> dict[str, Any]:
        """Return the figures of another system, each with that of ctrserve measured just before.

        Raises:
            NotStarted: it did not start, or its answers differ.
        """
        with self._started(system, port) as (_, found):
            return found

    @contextmanager
    def _started(self, system: System, port: int) -> Iterator[tuple[Subject, dict[str, Any]]]:
        log = self._root / f"{system.kind}.log"
        with running(system, port, self._rows[0], log, self._root) as (process, start_s):
            found: dict[str, Any] = {"kind": system.kind, "how": system.how, "start_s": round(start_s, 2)}
            if system.kind != "floor":
                if not self._expected:
                    with httpx.Client(timeout=30.0) as client:
                        self._expected = ask(system, port, self._rows, client)
                found["largest_difference"] = check(system, port, self._rows, self._expected)
            bodies = {n: [body_of(system, rows) for rows in requests] for n, requests in self._requests.items()}
            loads = {name: Load(system.path, bodies[n], c) for name, (n, c) in SCENARIOS.items()}
            if system.kind == "ours":
                loads |= _loads_of_ours(system.path, bodies)
            subject = Subject(system, port, process.pid, loads)
            found["closed_loop"] = {name: self._side_by_side(subject, name) for name in loads}
            found["open_loop"] = self._open_loop(subject, found["closed_loop"], bodies)
            found["memory"] = processes.total_memory(processes.family(process.pid))
            found["processes"] = len(processes.family(process.pid))
            yield subject, found

    def _side_by_side(self, subject: Subject, name: str) -> dict[str, Any]:
        beside = {}
        if self._ours is not None:
            beside = {one: self._load(self._ours, one) for one in (name, *BESIDE.get(name, ()))}
        found = self._load(subject, name)
        return {**found, "ours": beside} if beside else found

    def _load(self, subject: Subject, name: str) -> dict[str, Any]:
        load = subject.loads[name]
        with httpx.Client(timeout=30.0) as client:
            headers = {"content-type": "application/json"}
            probe = client.post(f"http://127.0.0.1:{subject.port}{load.path}", content=load.bodies[0], headers=headers)
        if not probe.is_success:
            raise NotStarted(f"{name}: {load.path} answers {probe.status_code}: {probe.text[:300]}")
        script = self._root / "load.lua"
        wrk.write_lua(script, load.bodies)
        wrk.load(subject.port, load.path, script, load.connections, WARM_UP_S)
        pids = processes.family(subject.pid)
        before = processes.cpu_s(pids)
        found = wrk.load(subject.port, load.path, script, load.connections, self._seconds)
        served = found["requests_per_s"] * found["seconds"]
        # Processor time of all processes of the system; it hardly depends on what else runs.
        found["server_us_per_request"] = round((processes.cpu_s(pids) - before) / max(served, 1) * 1e6, 1)
        shown = " ".join(f"{key} {found[key]:g}" for key in SHOWN)
        print(f"{subject.system.name:28}{name:17}{shown}", flush=True)
        return found

    def _open_loop(
        self, subject: Subject, closed: Mapping[str, Any], bodies: Mapping[int, Sequence[bytes]]
    ) -> list[dict[str, Any]]:
        system = subject.system
        plan: list[tuple[int, open_loop.Arrivals, float]] = [(1, "fixed", 5.0)]
        if system.kind == "ours":
            plan = [(1, "fixed", self._open_s), (1, "poisson", self._open_s / 2)]
            plan += [(n, "fixed", min(self._open_s, 60.0)) for n in (100, 1_000)]
        runs = []
        for n, arrivals, seconds in plan:
            alike = [name for name, load in subject.loads.items() if load.bodies is bodies[n]]
            offered = SHARE_OF_CAPACITY * max(closed[name]["requests_per_s"] for name in alike)
            found = open_loop.run(
                subject.port,
                system.path,
                bodies[n],
                rate=offered,
                seconds=seconds,
                connections=64,
                arrivals=arrivals,
                seed=SEED,
            )
            print(
                f"{system.name:28}{f'open, {n} rows':17}{arrivals} {offered:.0f}/s {found.get('from_due')} "
                f"errors {found['errors']} pauses {found.get('pauses')}",
                flush=True,
            )
            runs.append({"share_of_capacity": SHARE_OF_CAPACITY, "rows": n, **found})
        return runs


def _loads_of_ours(path: str, bodies: Mapping[int, Sequence[bytes]]) -> dict[str, Load]:
    """Return the scenarios that only ctrserve has."""
    loads = {}
    for n in (100, 1_000):
        loads[f"{n} rows @8"] = Load(path, bodies[n], 8)
        loads[f"{n} columns @1"] = Load(path, column_bodies(n, NUM_BODIES[n]), 1)
    return {**loads, "rank 1000 @1": Load("/rank", rank_bodies(1_000, 30), 1)}


def main() -> None:
    """Measure everything; write ``results/serving.json`` after each system."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path, default=PEERS, help="directory of the peers' virtual environments")
    parser.add_argument("--seconds", type=int, default=4, help="seconds of load for each figure")
    parser.add_argument("--long", action="store_true", help="five minutes of open loop, not one")
    parser.add_argument("--only", nargs="*", help="measure only systems whose name begins so; writes no results")
    options = parser.parse_args()
    began, version = time.monotonic(), wrk.version()
    peers = options.peers.absolute()
    result: dict[str, Any] = {
        **conditions(),
        "load_generator": version,
        "peer_versions": peer_versions(peers),
        "model": SERVED.describe(),
        "seconds": options.seconds,
        "systems": {},
        "not_measured": {},
    }
    with tempfile.TemporaryDirectory(prefix="ctrserve-benchmark-") as directory:
        root = Path(directory)
        write_model(root, Traffic(seed=1).rows(64), SERVED, for_peers=True)
        write_catalog(root / "catalog.json")
        comparison = Comparison(root, options.seconds, 300 if options.long else 60)
        own_port, port = free_port(), free_port(following=4)
        ours = ctrserve(root / "artifacts", own_port, catalog=root / "catalog.json")
        with comparison.beside(ours, own_port) as result["systems"][ours.name]:
            for system in systems(root, peers, port):
                if options.only and not system.name.startswith(tuple(options.only)):
                    continue
                try:
                    if time.monotonic() - began > BUDGET_S + (600 if options.long else 0):
                        raise NotStarted("out of time")
                    if not system.python.exists():
                        raise NotStarted("not installed: python -m benchmarks.install_peers")
                    result["systems"][system.name] = comparison.measure(system, port)
                except (RuntimeError, OSError, KeyError, ValueError, httpx.HTTPError) as error:
                    # A system that fails must not prevent the figures of the others.
                    reason = f"{type(error).__name__}: {error}"[-800:]
                    for place in (root, peers, PRODUCT):
                        reason = reason.replace(str(place), place.name)
                    result["not_measured"][system.name] = reason
                    print(f"{system.name:28}not measured: {reason}", flush=True)
                if not options.only:
                    save("serving", {**result, "took_s": round(time.monotonic() - began, 1)})


if __name__ == "__main__":
    main()
