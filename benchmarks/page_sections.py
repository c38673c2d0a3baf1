"""The sections of ``docs/performance.md`` on ctrserve alone: scaling, memory, the Redis tier."""

from __future__ import annotations

from benchmarks.markdown import MIB, Result, conditions_of, number, table


def scaling_section(result: Result) -> str:
    """Return the section on batches, ids, fields and workers."""
    parts = ["## How cost grows", conditions_of(result)]
    if batches := result.get("batches"):
        rows = [
            [b["rows"], number(b["p50_ms"]), number(b["p99_ms"]), number(b["rows"] * b["requests_per_s"])]
            for b in batches
        ]
        parts += ["### With the batch", table(["rows", "p50 ms", "p99 ms", "rows/s"], rows)]
    for name, by in (("ids", "ids"), ("fields", "fields")):
        if found := result.get(name):
            parts += [f"### With the {name}", _models_table(found, by)]
    if workers := result.get("workers"):
        loads = [key for key in workers[0] if "@" in key]
        rows = []
        for w in workers:
            rates = [f"{number(w[s]['requests_per_s'])} ({number(w[s]['p99_ms'])})" for s in loads]
            rows.append([w["workers"], *rates, number(w["memory"]["pss_bytes"] / MIB)])
        text = "Requests per second (p99 ms); the load generator runs on the same cores."
        parts += ["### With the workers", text, table(["workers", *loads, "PSS MiB"], rows)]
    parts += [f"Not measured: {name}: `{reason[:200]}`" for name, reason in result["not_measured"].items()]
    return "\n\n".join(parts)


def _models_table(models: list[Result], by: str) -> str:
    rows = [
        [
            f"{m[by]:,}",
            number(m["artifact_bytes"] / MIB),
            number(m["start_to_ready_s"]),
            number(m["memory"]["pss_bytes"] / MIB),
            *(number(m[load][key]) for load in ("1 row", "100 rows") for key in ("p50_ms", "p99_ms")),
        ]
        for m in models
    ]
    head = [by, "artifact MiB", "start to ready s", "PSS MiB", "1 row p50 ms", "p99", "100 rows p50 ms", "p99"]
    return table(head, rows)


def scoring_section(result: Result) -> str:
    """Return the section on scoring a file beside posting its rows."""
    best = min(result["scored"], key=lambda run: float(run["cpu_seconds"]))
    runs = [("`ctrserve score`", best), *((f"posted, {run['page']:,} in a request", run) for run in result["posted"])]
    of_best = best["rows"] / best["cpu_seconds"]
    rows = [
        [
            name,
            f"{run['rows'] / run['seconds']:,.0f}",
            f"{run['rows'] / run['cpu_seconds']:,.0f}",
            number(of_best * run["cpu_seconds"] / run["rows"]),
        ]
        for name, run in runs
    ]
    text = (
        "Rows of a Parquet file, 39 columns, with the model of the comparison above. Processor time is that of all processes that "
        "take part: the client reads the file, posts its rows by `ctrserve.Client` and reads the answers. The probabilities are equal."
    )
    head = ["", "rows/s", "rows per processor second", "`ctrserve score` has, times"]
    return "\n\n".join(["## A scored file", conditions_of(result), text, table(head, rows)])


def memory_section(result: Result) -> str:
    """Return the section on the memory of workers with a table of 1 GB."""
    parts = ["## Memory", conditions_of(result)]
    before: Result | None = None
    rows = []
    for found in result["workers"]:
        total = found["total"]
        grown = "–"
        if before is not None and before["hot_bytes"] == found["hot_bytes"]:
            grown = number((total["pss_bytes"] - before["total"]["pss_bytes"]) / MIB)
        sizes = [number(total[key] / MIB) for key in ("rss_bytes", "pss_bytes", "anonymous_bytes")]
        rows.append(
            [number(found["hot_bytes"] / MIB), found["workers"], *sizes, grown, number(found["start_to_ready_s"])]
        )
        before = found
    head = [
        "`CTR_HOT_BYTES` MiB",
        "workers",
        "RSS MiB",
        "PSS MiB",
        "anonymous MiB",
        "PSS of the added worker",
        "ready s",
    ]
    text = (
        f"A table of {result['table_bytes'] / 10**9:.2f} GB, after load on every worker; sums over the service's processes. "
        "RSS counts a shared page in each process, PSS once in all; anonymous memory is not backed by a file."
    )
    parts += [text, table(head, rows)]
    if start := result.get("start_to_ready"):
        seconds = ", ".join(number(s) for s in start["seconds"])
        parts.append(
            f"From starting the process to the first answer with {start['model']['num_ids']:,} ids × 16: {seconds} s."
        )
    parts += [f"Not measured: {name}: `{reason[:200]}`" for name, reason in result["not_measured"].items()]
    return "\n\n".join(parts)


def redis_section(result: Result) -> str:
    """Return the section on hit rates and added latency of the Redis tier."""
    states = {"without_redis": "no Redis", "redis_filling": "Redis while it fills", "redis_full": "Redis with all rows"}
    rows = []
    for state, title in states.items():
        for load, found in result.get(state, {}).items():
            base, due = result["without_redis"][load]["from_due"], found["from_due"]
            tiers = [f"{100 * found['tiers'].get(tier, 0):.1f} %" for tier in ("hot", "redis", "table")]
            hit = found["redis_outcomes"].get("hit")
            added = [f"{number(due[key])} ({due[key] - base[key]:+.2f})" for key in ("p50_ms", "p99_ms")]
            shown = "–" if hit is None else f"{100 * hit:.1f} %"
            rows.append(
                [
                    title,
                    f"{load.replace('1 rows', '1 row')} at {number(found['offered_rps'])}/s",
                    *tiers,
                    shown,
                    *added,
                    found["errors"],
                ]
            )
    head = ["", "requests", "hot", "redis", "table", "hits in Redis", "p50 ms (added)", "p99 ms (added)", "errors"]
    text = (
        f"A table of {result['table_bytes'] / MIB:.0f} MiB, ten times `CTR_HOT_BYTES`; Zipf traffic without repeated requests; "
        "open loop at the same load with and without Redis."
    )
    closed = [
        [states[state], *(f"{number(one['requests_per_s'])} ({number(one['p50_ms'])})" for one in loads.values())]
        for state, loads in result["closed_loop"].items()
    ]
    loads = result["closed_loop"]["without_redis"]
    more = "In a closed loop, where concurrent requests share look-ups: requests per second (p50 ms)."
    parts = ["## The Redis tier", conditions_of(result), text, table(head, rows), more, table(["", *loads], closed)]
    return "\n\n".join(parts)
