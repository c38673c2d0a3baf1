"""The section of ``docs/performance.md`` that compares servers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks import plots
from benchmarks.markdown import MIB, Result, conditions_of, number, table


def best_peer(systems: Mapping[str, Result], scenario: str) -> tuple[str, float] | None:
    """Return the peer with most requests per second in a scenario, and how many.

    >>> of = lambda kind, rate: {"kind": kind, "closed_loop": {"x": {"requests_per_s": rate}}}
    >>> best_peer({"us": of("ours", 9.0), "a": of("peer", 1.0), "b": of("peer", 2.0)}, "x")
    ('b', 2.0)
    """
    rates = {
        name: float(system["closed_loop"][scenario]["requests_per_s"])
        for name, system in systems.items()
        if system["kind"] == "peer" and scenario in system["closed_loop"]
    }
    return max(rates.items(), key=lambda item: item[1]) if rates else None


def serving_section(result: Result, figures: Path) -> str:
    """Return the comparison: ratios to the best peer, then every figure."""
    systems = result["systems"]
    parts = ["## Against other servers", conditions_of(result)]
    ours = next((system for system in systems.values() if system["kind"] == "ours"), None)
    scenarios = list(next(iter(systems.values()))["closed_loop"]) if systems else []
    common = [s for s in scenarios if all(s in system["closed_loop"] for system in systems.values())]
    parts.append(
        "The same model, the same JSON in, one number a row out; each with one worker process and one mathematics thread, "
        "the load from the same machine. All gave the same probabilities to 1e-4 before anything was timed."
    )
    if ours is not None and any(system["kind"] == "peer" for system in systems.values()):
        rows = []
        for scenario in common:
            peer, mine = best_peer(systems, scenario), ours["closed_loop"][scenario]
            assert peer is not None
            their = systems[peer[0]]["closed_loop"][scenario]
            rows.append(
                [scenario, f"**{mine['requests_per_s'] / peer[1]:.2f} ×**", peer[0]]
                + [f"{number(mine[key])} : {number(their[key])}" for key in ("requests_per_s", "p50_ms", "p99_ms")]
            )
        head = ["requests", "ours ÷ best peer", "best peer", "requests/s", "p50 ms", "p99 ms"]
        parts.append(table(head, rows))
    parts.append("Requests per second (p50 / p99 / p99.9 ms), closed loop:")
    every = []
    for name, system in systems.items():
        cells = [_cell(system["closed_loop"][s]) for s in common]
        memory = system.get("memory", {}).get("pss_bytes", 0) / MIB
        every.append([name, *cells, f"{memory:,.0f}"])
    parts.append(table(["", *common, "PSS MiB"], every))
    parts.append("Processor time of all its processes, µs a request:")
    work = [
        [n, *(number(system["closed_loop"][s]["server_us_per_request"]) for s in common)]
        for n, system in systems.items()
    ]
    parts.append(table(["", *common], work))
    if ours is not None:
        extra = [s for s in ours["closed_loop"] if s not in common]
        parts.append(
            table(
                ["ctrserve also", "requests/s (p50 / p99 / p99.9 ms)"],
                [[s, _cell(ours["closed_loop"][s])] for s in extra],
            )
        )
    for scenario, file in (("1 row @1", "single-1"), ("1 row @64", "single-64"), ("100 rows @1", "rows-100")):
        if scenario in common:
            plots.plot_throughput(result, scenario, figures / f"{file}.svg")
            parts.append(f"![{scenario}](performance/{file}.svg)")
    wrk = [
        s["closed_loop"]["1 row @1"]["wrk_us_per_request"] for s in systems.values() if "1 row @1" in s["closed_loop"]
    ]
    if wrk:
        parts.append(
            f"wrk itself used {min(wrk):.0f}–{max(wrk):.0f} µs of processor time a request (one row, one connection)."
        )
    parts += ["### In an open loop", _open_loop_text(), _open_loop_table(systems)]
    if ours is not None:
        plots.plot_open_loop(result, figures / "open-loop.svg")
        parts.append("![p99 by second](performance/open-loop.svg)")
    peers = "; ".join(
        f"{n} {', '.join(f'{p} {v}' for p, v in found.items())}" for n, found in result["peer_versions"].items()
    )
    parts += ["### How each was set up", *[f"* **{n}**: {s['how']}" for n, s in systems.items()], f"Versions: {peers}."]
    parts += [f"* Not measured: **{name}**: `{reason[:200]}`" for name, reason in result["not_measured"].items()]
    return "\n\n".join(parts)


def _cell(found: Result) -> str:
    errors = f", **{found['errors']} errors**" if found["errors"] else ""
    latencies = " / ".join(number(found[key]) for key in ("p50_ms", "p99_ms", "p99.9_ms"))
    return f"{number(found['requests_per_s'])} ({latencies}){errors}"


def _open_loop_text() -> str:
    return (
        "Requests leave when they are due, at 70 % of each system's own best rate with single rows, over 64 connections; a "
        "latency counts from the moment a request was due, so that a stall is felt by all who came meanwhile (a closed loop "
        "stops asking: coordinated omission). A pause is more than 20 ms without an answer while one is owed."
    )


def _open_loop_table(systems: Mapping[str, Result]) -> str:
    rows = []
    for name, system in systems.items():
        for run in system["open_loop"]:
            if "from_due" not in run:
                continue
            due = [number(run["from_due"][key]) for key in ("p50_ms", "p90_ms", "p99_ms", "p99.9_ms", "max_ms")]
            rate = f"{number(run['offered_rps'])} {run['arrivals']}, {run['seconds']:.0f} s"
            rows.append([name, rate, *due, run["pauses"]["count"], run["errors"]])
    return table(["", "offered/s", "p50 ms", "p90", "p99", "p99.9", "max", "pauses", "errors"], rows)
