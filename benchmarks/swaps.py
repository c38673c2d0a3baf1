"""``python -m benchmarks.swaps``: model swaps while the service, on a core of its own, is at full load.

wrk, on the other core, sends one request and compares every answer with that of the version which it names: exactly with one
connection, up to rounding with several, whose rows can share a matrix product. Three versions take turns, because the version
before the last is still in memory and would not be loaded. Periods with and without swaps alternate, so that changes in the speed
of the machine affect both.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np

from benchmarks import wrk
from benchmarks.conditions import conditions, save
from benchmarks.model import write_model
from benchmarks.overload import pin
from benchmarks.servers import ctrserve, free_port, running
from benchmarks.workload import SERVED, Traffic, row_bodies
from models.artifact.artifact import load_artifact
from models.artifact.current import set_current
from models.artifact.tensor_file import Tensors
from models.artifact.writing import model_files, write_artifact
from models.network.calibration import Calibration

VERSIONS = {"v1": -1.0, "v2": -1.5, "v3": -2.0}
"""Version → intercept of its calibration."""
CONNECTIONS = (1, 16)
ROUNDING = 1e-6
LOOK_S = 0.25
"""Interval of reading the log. Not shorter: this process shares its core with wrk."""
JSON = {"content-type": "application/json"}
_CHECKS = """
failed, wrong = 0, 0
for version in pairs(right) do _G["seen_" .. version] = 0 end
local match, number, tolerance = string.match, tonumber, TOLERANCE
local function is_right(body, version)
  if body == right[version] then return true end
  local found = number(match(body, '"predictions":%[([^%]]+)'))
  local wanted = number(match(right[version], '"predictions":%[([^%]]+)'))
  return found ~= nil and math.abs(found - wanted) <= tolerance * wanted
end
response = function(status, headers, body)
  if status ~= 200 then failed = failed + 1 return end
  local version = match(body, '"model_version":"(%w+)"')
  if version == nil or right[version] == nil or not is_right(body, version) then wrong = wrong + 1 return end
  _G["seen_" .. version] = _G["seen_" .. version] + 1
end
local threads = {}
setup = function(thread) threads[#threads + 1] = thread end
local report = done
done = function(summary, latency, requests)
  local t = threads[1]
  io.write(string.format('\\n#{"failed":%d,"wrong":%d', t:get("failed"), t:get("wrong")))
  for version in pairs(right) do io.write(string.format(',"%s":%d', version, t:get("seen_" .. version))) end
  io.write('}\\n')
  report(summary, latency, requests)
end
"""


def write_versions(root: Path) -> Path:
    """Write the artifacts below ``root``; return their directory."""
    first = load_artifact(write_model(root, Traffic(1).rows(64), SERVED) / "benchmark")
    for version, intercept in VERSIONS.items():
        calibration = Calibration(method="platt", slope=0.9, intercept=intercept)
        probabilities = calibration.of_traffic(np.array(first.golden.logits, np.float32))
        golden = first.golden.model_copy(update={"probabilities": tuple(probabilities.tolist())})
        embeddings: Tensors = {"rows": first.table, "counts": first.counts}
        texts, tensors = model_files(first.encoder, calibration, golden, embeddings, first.head)
        texts |= {"report.html": "", "model_card.md": ""}
        write_artifact(root / "versions", first.manifest.model_copy(update={"model_version": version}), texts, tensors)
    return root / "versions"


def right_answers(client: httpx.Client, artifacts: Path, body: bytes) -> dict[str, bytes]:
    """Return the right answer of each version."""
    right = {}
    for version in VERSIONS:
        set_current(artifacts, version)
        while version not in right:
            answer = client.post("/predict", content=body, headers=JSON).raise_for_status()
            if answer.json()["model_version"] == version:
                right[version] = answer.content
            time.sleep(0.02)
    return right


@contextmanager
def swapping(artifacts: Path, log: Path, pause_s: float) -> Iterator[None]:
    """Swap to one version after the other while the block lasts; the log says when each is being served."""
    is_over = threading.Event()

    def swap() -> None:
        for version in cycle(VERSIONS):
            set_current(artifacts, version)
            while re.findall(r'"event":"serving (\w+)"', log.read_text())[-1:] != [version]:
                if is_over.wait(LOOK_S):
                    return
            if is_over.wait(pause_s):
                return

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def main() -> None:
    """Measure and write ``results/swaps.json``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.swaps", description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=int, default=10, help="of each period (default 10)")
    parser.add_argument("--pause", type=float, default=0.2, help="seconds from one swap to the next (default .2)")
    options = parser.parse_args()
    core = pin()
    result: dict[str, Any] = {**conditions(), "load_generator": wrk.version(), "model": SERVED.describe()}
    body = row_bodies(1, 1)[0]
    with tempfile.TemporaryDirectory(prefix="ctrserve-benchmark-") as directory:
        root = Path(directory)
        artifacts = write_versions(root)
        set_current(artifacts, next(iter(VERSIONS)))
        port = free_port()
        system = ctrserve(artifacts, port, core=core, poll_s=0.05)
        url = f"http://127.0.0.1:{port}"
        with (
            running(system, port, Traffic(1).rows(1)[0], root / "log"),
            httpx.Client(base_url=url, timeout=30) as client,
        ):
            right = right_answers(client, artifacts, body)
            for connections in CONNECTIONS:
                script = root / f"load{connections}.lua"
                checks = _CHECKS.replace("TOLERANCE", "0" if connections == 1 else f"{ROUNDING}")
                answers = "".join(f"right.{version} = [==[{text.decode()}]==]\n" for version, text in right.items())
                wrk.write_lua(script, [body], further="right = {}\n" + answers + checks)
                found: dict[str, list[dict[str, Any]]] = {"calm": [], "swapping": []}
                loads = loaded(client)
                for _ in range(options.rounds):
                    found["calm"].append(wrk.load(port, "/predict", script, connections, options.seconds))
                    with swapping(artifacts, root / "log", options.pause):
                        found["swapping"].append(wrk.load(port, "/predict", script, connections, options.seconds))
                result[f"single@{connections}"] = {**found, **summary(found), "swaps": loaded(client) - loads}
                print(
                    f"{connections:3} connections: { ({**summary(found), 'swaps': loaded(client) - loads}) }",
                    flush=True,
                )
    save("swaps", result)


def loaded(client: httpx.Client) -> int:
    """Return the number of artifacts that the service has loaded."""
    found = re.search(r'^ctr_model_loads_total\{result="ok"\} (\S+)', client.get("/metrics").text, re.MULTILINE)
    return int(float(found[1])) if found else 0


def summary(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Return requests, failures, wrong answers, and medians over the rounds."""
    every = [one for stretches in found.values() for one in stretches]
    total = {name: sum(one["checks"][name] for one in every) for name in ("failed", "wrong")}
    errors = sum(one["errors"] for one in every)
    middle = {
        f"{name}_{what}": round(median(one[what] for one in stretches), 3)
        for name, stretches in found.items()
        for what in ("requests_per_s", "p50_ms", "p99_ms", "max_ms")
    }
    ratio = median(s["p99_ms"] / c["p99_ms"] for s, c in zip(found["swapping"], found["calm"], strict=True))
    return {"errors": errors, **total, **middle, "p99_ratio": round(ratio, 2)}


if __name__ == "__main__":
    main()
