"""Closed-loop load by wrk: requests per second over a number of connections, and their latencies."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PERCENTILES = (50, 90, 99, 99.9)
GRACE_S = 45.0

_SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local requests, at = {}, 0
init = function(args)
  for i, body in ipairs(bodies) do requests[i] = wrk.format(nil, nil, nil, body) end
end
request = function()
  at = at % #requests + 1
  return requests[at]
end
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\n@{"requests":%d,"duration_us":%d,"p50":%d,"p90":%d,"p99":%d,"p99.9":%d,"max":%d,' ..
    '"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(90), latency:percentile(99),
    latency:percentile(99.9), latency.max, e.connect, e.read, e.write, e.status, e.timeout))
end
"""


def version() -> str:
    """Return wrk's version.

    Raises:
        SystemExit: it is not installed.
    """
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed; on Debian: apt-get install wrk")
    return subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False).stdout.split("[")[0].strip()


def write_lua(path: Path, bodies: Sequence[bytes], further: str = "") -> None:
    """Write a script that cycles over request bodies and prints its figures as JSON.

    Args:
        path: of the script.
        bodies: of requests.
        further: Lua that checks answers; a line of JSON that it prints after ``#`` is returned as ``checks``.
    """
    lines = [f"bodies[{i + 1}] = [==[{body.decode()}]==]" for i, body in enumerate(bodies)]
    path.write_text("\n".join(["bodies = {}", *lines, _SCRIPT, further]))


def load(port: int, path: str, script: Path, connections: int, seconds: int) -> dict[str, Any]:
    """Load a server; return requests per second, latencies in milliseconds, errors, and the processor time of wrk.

    Raises:
        RuntimeError: wrk failed or did not end in time.
    """
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(script)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        ran = subprocess.run(
            [*command, f"http://127.0.0.1:{port}{path}"],
            capture_output=True,
            text=True,
            check=True,
            timeout=seconds + GRACE_S,
        )
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"wrk: {error.stderr[-300:]}{error.stdout[-300:]}") from error
    except subprocess.TimeoutExpired as error:
        raise RuntimeError("wrk did not end") from error
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    said = {line[0]: json.loads(line[1:]) for line in ran.stdout.splitlines() if line.startswith(("@", "#"))}
    if "@" not in said:
        raise RuntimeError(f"wrk said: {ran.stdout[-500:]}{ran.stderr[-500:]}")
    checks = {"checks": said["#"]} if "#" in said else {}
    return {**summarise(said["@"], connections, used_s), **checks}


def summarise(raw: dict[str, int], connections: int, wrk_cpu_s: float) -> dict[str, Any]:
    """Convert wrk's counts to the units of the results.

    >>> raw = {"requests": 1000, "duration_us": 2000000, "p50": 900, "p90": 950, "p99": 1500, "p99.9": 1600, "max": 1700}
    >>> raw |= {"connect": 0, "read": 0, "write": 0, "status": 3, "timeout": 1}
    >>> found = summarise(raw, 1, 0.01)
    >>> found["requests_per_s"], found["p99_ms"], found["errors"], found["wrk_us_per_request"]
    (498.5, 1.5, 4, 10.0)
    """
    errors = {name: raw[name] for name in ("connect", "read", "write", "status", "timeout")}
    good = raw["requests"] - raw["status"]
    return {
        "connections": connections,
        "seconds": round(raw["duration_us"] / 1e6, 3),
        "requests_per_s": round(good / (raw["duration_us"] / 1e6), 2),
        **{f"p{p}_ms": round(raw[f"p{p}"] / 1e3, 3) for p in PERCENTILES},
        "max_ms": round(raw["max"] / 1e3, 3),
        "errors": sum(errors.values()),
        "errors_by_kind": {name: n for name, n in errors.items() if n},
        "wrk_us_per_request": round(wrk_cpu_s / max(raw["requests"], 1) * 1e6, 1),
    }
