"""The section of ``docs/performance.md`` that compares servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.markdown import BESIDE, MIB, Result, conditions_of, number, table


def closest(systems: Mapping[str, Result], scenario: str, ours: str) -> str | None:
    """Return the peer with the best requests per second relative to ctrserve's, measured side by side.

    Args:
        systems: of the result.
        scenario: of the peers.
        ours: scenario of ctrserve, usually the same.

    >>> of = lambda rate, ours: {"kind": "peer", "closed_loop": {"x": {"requests_per_s": rate, "ours": {"x": ours}}}}
    >>> closest({"a": of(1.0, {"requests_per_s": 5.0}), "b": of(2.0, {"requests_per_s": 8.0})}, "x", "x")
    'b'
    >>> closest({}, "x", "x")
    """
    ratios = {
        name: _ratio(system, scenario, ours)
        for name, system in systems.items()
        if system["kind"] == "peer" and scenario in system["closed_loop"]
    }
    return min(ratios, key=lambda name: ratios[name]) if ratios else None


def _ratio(system: Result, scenario: str, ours: str) -> float:
    found = system["closed_loop"][scenario]
    return float(found["ours"][ours]["requests_per_s"] / found["requests_per_s"])


def _side_by_side(name: str, system: Result, ours: str, theirs: str) -> list[str]:
    their = system["closed_loop"][theirs]
    mine = their["ours"][ours]
    figures = [f"{number(mine[key])} : {number(their[key])}" for key in ("requests_per_s", "p50_ms", "p99_ms")]
    label = ours if ours == theirs else f"{ours} : {theirs}"
    p50 = f"{mine['p50_ms'] / their['p50_ms']:.2f}"
    return [label, f"**{_ratio(system, theirs, ours):.2f} ×**", p50, name, *figures]


def serving_section(result: Result) -> str:
    """Return the section: ratios to the best peer, then all figures."""
    systems: Mapping[str, Result] = result["systems"]
    parts = ["## Against other servers", conditions_of(result)]
    ours = next((system for system in systems.values() if system["kind"] == "ours"), None)
    scenarios = list(next(iter(systems.values()))["closed_loop"]) if systems else []
    common = [s for s in scenarios if all(s in system["closed_loop"] for system in systems.values())]
    parts.append(
        "The same model, the same JSON in, one number a row out. Each server has one worker process and one arithmetic "
        "thread; the load comes from the same machine. All gave the same probabilities to 1e-4 before anything was timed."
    )
    pairs = [(s, s) for s in common] + [(mine, s) for s, beside in BESIDE.items() if s in common for mine in beside]
    head = ["requests", "ours ÷ theirs", "p50 ÷ p50", "theirs", "requests/s", "p50 ms", "p99 ms"]
    closest_peers = [(closest(systems, theirs, mine), mine, theirs) for mine, theirs in pairs]
    if rows := [_side_by_side(name, systems[name], mine, theirs) for name, mine, theirs in closest_peers if name]:
        parts += [
            "Beside the closest peer of each scenario, ours measured just before it (ours : theirs):",
            table(head, rows),
        ]
    floors = [(name, system) for name, system in systems.items() if system["kind"] == "floor"]
    if floors:
        rows = [_side_by_side(name, system, s, s) for name, system in floors for s in common]
        parts += ["Beside the floors, which score nothing:", table(head, rows)]
    parts.append("All figures: requests per second (p50 / p99 / p99.9 ms), closed loop; of ctrserve the first run:")
    every = []
    for name, system in systems.items():
        cells = [_cell(system["closed_loop"][s]) for s in common]
        memory = system.get("memory", {}).get("pss_bytes", 0) / MIB
        every.append([name, *cells, f"{memory:,.0f}"])
    parts.append(table(["", *common, "PSS MiB"], every))
    if spans := _spans(systems, common):
        parts.append(f"How much the machine varied: over the whole run ctrserve reached {spans} requests/s.")
    parts.append("Processor time of all processes of a server, µs a request:")
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
    wrk = [
        s["closed_loop"]["1 row @1"]["wrk_us_per_request"] for s in systems.values() if "1 row @1" in s["closed_loop"]
    ]
    if wrk:
        parts.append(
            f"wrk itself used {min(wrk):.0f}–{max(wrk):.0f} µs of processor time a request (one row, one connection)."
        )
    parts += ["### In an open loop", _open_loop_text(), _open_loop_table(systems)]
    peers = "; ".join(
        f"{n} {', '.join(f'{p} {v}' for p, v in found.items())}" for n, found in result["peer_versions"].items()
    )
    parts += ["### How each was set up", *[f"* **{n}**: {s['how']}" for n, s in systems.items()], f"Versions: {peers}."]
    parts += [f"* Not measured: **{name}**: `{reason[:200]}`" for name, reason in result["not_measured"].items()]
    return "\n\n".join(parts)


def _spans(systems: Mapping[str, Result], scenarios: Sequence[str]) -> str:
    spans = []
    for scenario in scenarios:
        beside = [system["closed_loop"][scenario].get("ours") for system in systems.values()]
        rates = [one[scenario]["requests_per_s"] for one in beside if one]
        if rates:
            spans.append(f"{scenario} {number(min(rates))}–{number(max(rates))}")
    return ", ".join(spans)


def _cell(found: Result) -> str:
    errors = f", **{found['errors']} errors**" if found["errors"] else ""
    latencies = " / ".join(number(found[key]) for key in ("p50_ms", "p99_ms", "p99.9_ms"))
    return f"{number(found['requests_per_s'])} ({latencies}){errors}"


def _open_loop_text() -> str:
    return (
        "Requests are sent when they are due, at 70 % of each system's own best rate with as many rows, over 64 connections. "
        "Latency counts from the moment a request was due, so a stall counts for all requests that were due meanwhile (a "
        "closed loop would stop sending: coordinated omission). A pause is more than 20 ms without an answer while one is due."
    )


def _open_loop_table(systems: Mapping[str, Result]) -> str:
    rows = []
    for name, system in systems.items():
        for run in system["open_loop"]:
            if "from_due" not in run:
                continue
            due = [number(run["from_due"][key]) for key in ("p50_ms", "p90_ms", "p99_ms", "p99.9_ms", "max_ms")]
            rate = f"{number(run['offered_rps'])} {run['arrivals']}, {run['seconds']:.0f} s"
            ratio = run["from_due"]["p99_ms"] / run["from_due"]["p50_ms"]
            rows.append([name, run["rows"], rate, *due, number(ratio), run["pauses"]["count"], run["errors"]])
    head = ["", "rows", "offered/s", "p50 ms", "p90", "p99", "p99.9", "max", "p99 ÷ p50", "pauses", "errors"]
    return table(head, rows)
