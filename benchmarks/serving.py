"""``python -m benchmarks.serving --peers DIR``: every server with the same model, one after the other, on the same machine.

One worker and one torch thread each; wrk (one thread) on the other core; closed loop. The answers of all are compared
before anything is timed. Needs ``wrk``; each peer lives in ``DIR/<name>`` as a virtual environment of its own with
torch, numpy, safetensors and the peer; those that are not there, or do not start, are reported and left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import orjson

from benchmarks.workload import Traffic, write_lua, write_model, write_requests

HERE = Path(__file__).parent
RESULTS = HERE / "results"
START_DEADLINE_S = 90.0
TOLERANCE = 1e-4


@dataclass(frozen=True)
class System:
    """A server to measure: how it starts, where it listens, and which of the scripts it is asked."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    path: str = "/predict"
    scripts: dict[str, str] = field(default_factory=dict)
    is_model: bool = True


# Scenario → wrk script and connections.
SCENARIOS = {
    "single@1": ("rows-1", 1),
    "single@16": ("rows-1", 16),
    "single@64": ("rows-1", 64),
    "100 rows@1": ("rows-100", 1),
    "1000 rows@1": ("rows-1000", 1),
}
OURS_TOO = {"100 columns@1": ("columns-100", 1), "1000 columns@1": ("columns-1000", 1), "rank 1000@1": ("rank-1000", 1)}


def systems(root: Path, peers: Path, port: int) -> list[System]:
    """Return everything to measure, ours first."""
    here, python = {"PORT": str(port)}, sys.executable
    uvicorn = ["-m", "uvicorn", "--port", str(port), "--loop", "uvloop", "--http", "httptools", "--no-access-log"]
    uvicorn += ["--log-level", "warning", "--app-dir", str(HERE / "peers")]
    ours = {"CTR_ARTIFACTS": str(root / "artifacts"), "CTR_PORT": str(port), "CTR_CATALOG": str(root / "catalog.json")}

    def of(name: str) -> str:
        return str(peers / name / "bin" / "python")

    v2 = {script: f"v2-{script}" for script in ("rows-1", "rows-100", "rows-1000")}
    serve_bento = [
        of("bentoml"),
        "-m",
        "bentoml",
        "serve",
        "bentoml_server:DeepFM",
        "--port",
        str(port),
        "--host",
        "127.0.0.1",
    ]
    return [
        System("ctrserve", [python, "-m", "app"], {**ours, "CTR_DRAIN_S": "0"}),
        System("naive FastAPI", [python, *uvicorn, "naive_fastapi:app"]),
        System("floor: FastAPI + Pydantic", [python, *uvicorn, "floors:typed"], is_model=False),
        System("floor: bare uvicorn", [python, *uvicorn, "floors:bare"], is_model=False),
        System("LitServe", [of("litserve"), "litserve_server.py"], here),
        System("LitServe, batching", [of("litserve"), "litserve_server.py"], {**here, "BATCH": "32"}),
        System("BentoML", serve_bento),
        System(
            "MLServer",
            [str(peers / "mlserver" / "bin" / "mlserver"), "start", str(root / "mlserver")],
            {"MLSERVER_HTTP_PORT": str(port), "MLSERVER_PARALLEL_WORKERS": "0"},
            "/v2/models/deepfm/infer",
            v2,
        ),
        System("Ray Serve", [of("ray"), "ray_server.py"], here),
    ]


def v2_body(rows: list[dict[str, Any]]) -> bytes:
    """Return rows as a request of the open inference protocol, one JSON string each."""
    data = [orjson.dumps(row).decode() for row in rows]
    parameters = {"content_type": "str"}
    return orjson.dumps(
        {
            "inputs": [
                {"name": "rows", "shape": [len(data), 1], "datatype": "BYTES", "parameters": parameters, "data": data}
            ]
        }
    )


def write_for_mlserver(root: Path) -> None:
    """Write MLServer's settings and request scripts."""
    directory = root / "mlserver"
    directory.mkdir()
    settings = {
        "name": "deepfm",
        "implementation": "mlserver_runtime.DeepFM",
        "max_batch_size": 64,
        "max_batch_time": 0.001,
    }
    (directory / "model-settings.json").write_text(json.dumps(settings))
    (directory / "settings.json").write_text(
        json.dumps({"host": "127.0.0.1", "debug": False, "metrics_port": 0, "grpc_port": 0})
    )
    traffic = Traffic()
    for n, count in ((1, 300), (100, 30), (1_000, 10)):
        write_lua(root / f"v2-rows-{n}.lua", [v2_body(traffic.rows(n)) for _ in range(count)])


@contextmanager
def running(system: System, root: Path, port: int) -> Iterator[None]:
    """Start a server and wait until it answers; end it with everything it started."""
    environment = {
        **os.environ,
        "BENCHMARK_MODEL": str(root),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(HERE / "peers"),
    }
    if system.name == "ctrserve":
        environment["PYTHONPATH"] = str(HERE.parent)
    environment |= system.environment
    cwd = HERE.parent if system.name == "ctrserve" else HERE / "peers"
    with (root / "server.log").open("wb") as log:
        process = subprocess.Popen(
            system.command, cwd=cwd, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            deadline = time.monotonic() + START_DEADLINE_S
            while not _answers(system, port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((root / "server.log").read_text(errors="replace")[-2_000:])
                time.sleep(0.2)
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.killpg(process.pid, number)
                    process.wait(15)
                except (ProcessLookupError, subprocess.TimeoutExpired):
                    continue


def ask(system: System, port: int, rows: list[dict[str, Any]]) -> list[float]:
    """Return a system's probabilities."""
    body = v2_body(rows) if system.scripts else orjson.dumps({"instances": rows})
    answer = httpx.post(
        f"http://127.0.0.1:{port}{system.path}", content=body, headers={"content-type": "application/json"}, timeout=30
    )
    answer.raise_for_status()
    document = answer.json()
    if isinstance(document, list):
        return document
    return list(document["outputs"][0]["data"] if "outputs" in document else document["predictions"])


def _answers(system: System, port: int) -> bool:
    try:
        return bool(ask(system, port, Traffic().rows(1)))
    except (httpx.HTTPError, KeyError):
        return False


def load(system: System, root: Path, port: int, script: str, connections: int, seconds: int) -> dict[str, float]:
    """Run wrk; return requests/s and latencies in milliseconds, and how many answers were errors."""
    path = "/rank" if script.startswith("rank") else system.path
    command = [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        "--timeout",
        "30s",
        "--latency",
        "-s",
        str(root / f"{script}.lua"),
    ]
    out = subprocess.run(
        [*command, f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True, check=True
    ).stdout
    unit = {"us": 1e-3, "ms": 1.0, "s": 1e3}
    latencies = {f"p{p}_ms": float(x) * unit[u] for p, x, u in re.findall(r"(50|90|99)%\s+([\d.]+)(us|ms|s)\b", out)}
    errors = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", out)
    assert rate is not None, out
    return {"requests_per_s": float(rate[1]), **latencies, "errors": float(errors[1]) if errors else 0.0}


def conditions() -> dict[str, Any]:
    """Return what the figures depend on."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    git = ["git", "-C", str(HERE), "describe", "--always", "--dirty"]
    flags = Path("/proc/cpuinfo").read_text()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip(),
        "cpu": cpu[1] if cpu else platform.processor(),
        "cores": os.cpu_count(),
        "widest_vectors": next(
            (f for f in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if f" {f} " in flags), "unknown"
        ),
        "python": platform.python_version(),
        **{name: version(name) for name in ("numpy", "torch", "pydantic", "fastapi", "uvicorn")},
    }


def main() -> None:
    """Measure everything and write ``results/serving.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--peers", type=Path, default=Path("peers"), help="directory of the peers' virtual environments"
    )
    parser.add_argument("--seconds", type=int, default=6, help="seconds of load for each figure")
    options = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    results: dict[str, Any] = {
        "conditions": conditions(),
        "seconds": options.seconds,
        "systems": {},
        "not_measured": {},
    }
    with tempfile.TemporaryDirectory(prefix="ctrserve-benchmark-") as directory:
        root, rows, expected = Path(directory), Traffic(seed=3).rows(64), list[float]()
        write_model(root)
        write_requests(root)
        write_for_mlserver(root)
        for system in systems(root, options.peers.resolve(), port):
            try:
                with running(system, root, port):
                    if system.is_model:
                        answers = ask(system, port, rows)
                        expected = expected or answers
                        worst = max(abs(a - b) for a, b in zip(answers, expected, strict=True))
                        if worst > TOLERANCE:
                            raise RuntimeError(f"answers differ by {worst:.2g}")
                    figures: dict[str, Any] = {}
                    for name, (script, connections) in {
                        **SCENARIOS,
                        **(OURS_TOO if system.name == "ctrserve" else {}),
                    }.items():
                        load(system, root, port, system.scripts.get(script, script), connections, 1)
                        figures[name] = load(
                            system, root, port, system.scripts.get(script, script), connections, options.seconds
                        )
                        print(f"{system.name:28}{name:18}{figures[name]}", flush=True)
                    results["systems"][system.name] = figures
            except (RuntimeError, OSError, httpx.HTTPError, subprocess.CalledProcessError) as error:
                results["not_measured"][system.name] = str(error)[-500:]
                print(f"{system.name:28}not measured: {str(error)[-300:]}", flush=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "serving.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
