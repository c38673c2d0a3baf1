"""The systems that the serving comparison starts, and how each is set up: a naive app, floors, and the peers."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

from benchmarks.conditions import versions_in
from benchmarks.servers import PEER_CODE, System

BATCH = "64"


def systems(root: Path, peers: Path, port: int) -> list[System]:
    """Return the systems that ctrserve is compared with.

    Args:
        root: directory in which `benchmarks.model.write_model` wrote the model; files for peers are added to it.
        peers: directory of the peers' environments, see `benchmarks.install_peers`.
        port: that each listens on.
    """
    return [
        *_own_uvicorn(port),
        *_litserve(peers, port),
        *_bentoml(peers, port),
        *_mlserver(root, peers, port),
        *_ray(peers, port),
        *_torchserve(root, peers, port),
    ]


PACKAGES = {
    "litserve": ("litserve", "torch", "uvicorn", "uvloop", "httptools", "pyzmq"),
    "bentoml": ("bentoml", "torch", "uvicorn", "uvloop", "httptools"),
    "mlserver": ("mlserver", "torch", "uvicorn", "uvloop", "httptools", "orjson"),
    "ray": ("ray", "torch", "uvicorn", "uvloop", "httptools", "orjson"),
    "torchserve": ("torchserve", "torch-model-archiver", "torch"),
}


def peer_versions(peers: Path) -> dict[str, dict[str, str]]:
    """Return the versions of the packages in each peer's environment."""
    return {
        name: versions_in(_python(peers, name), wanted)
        for name, wanted in PACKAGES.items()
        if _python(peers, name).exists()
    }


def _python(peers: Path, name: str) -> Path:
    return peers / name / "bin" / "python"


def _own_uvicorn(port: int) -> list[System]:
    command = [sys.executable, "-m", "uvicorn", "--host", "127.0.0.1", "--port", str(port), "--loop", "uvloop"]
    command += ["--http", "httptools", "--no-access-log", "--log-level", "warning"]
    return [
        System(
            "naive FastAPI",
            [*command, "naive_fastapi:app"],
            "naive",
            "the obvious code: Pydantic body, dictionaries, torch eager; uvicorn with uvloop and httptools, no access log",
        ),
        System(
            "floor: FastAPI + Pydantic",
            [*command, "floors:typed"],
            "floor",
            "the same typed body, one constant for each row",
        ),
        System("floor: bare uvicorn", [*command, "floors:bare"], "floor", "raw ASGI, reads the body, one constant"),
    ]


def _litserve(peers: Path, port: int) -> list[System]:
    python = _python(peers, "litserve")
    how = "one worker, one API server, `fast_queue` (its docs: above 100 requests/s), uvloop, no access log"
    environment = {"PORT": str(port)}
    command = [str(python), "litserve_server.py"]
    return [
        System("LitServe", command, "peer", how, environment, python=python),
        System(
            "LitServe, batching",
            command,
            "peer",
            f"{how}; `max_batch_size={BATCH}`, `batch_timeout` 1 ms",
            {**environment, "BATCH": BATCH},
            python=python,
        ),
    ]


def _bentoml(peers: Path, port: int) -> list[System]:
    python = _python(peers, "bentoml")
    serve = ["--host", "127.0.0.1", "--port", str(port)]
    how = "production mode, `workers=1`, `threads=1`, uvloop, no access log"
    environment = {"BENTOML_DO_NOT_TRACK": "true"}

    def of(name: str, service: str, more: str) -> System:
        command = [str(python), "-m", "bentoml", "serve", f"bentoml_server:{service}", *serve]
        return System(name, command, "peer", how + more, environment, python=python)

    return [
        of("BentoML", "Plain", ", asynchronous API"),
        of("BentoML, batching", "Batching", ", `batchable=True` (adaptive), `max_batch_size=2048`"),
    ]


def _mlserver(root: Path, peers: Path, port: int) -> list[System]:
    python = _python(peers, "mlserver")
    directory = root / "mlserver"
    directory.mkdir(exist_ok=True)
    model = {"name": "deepfm", "implementation": "mlserver_runtime.DeepFM"}
    # Its adaptive batching waits up to max_batch_time for a batch to fill.
    model |= {"max_batch_size": int(BATCH), "max_batch_time": 0.001}  # type: ignore[dict-item]
    (directory / "model-settings.json").write_text(json.dumps(model))
    (directory / "settings.json").write_text(json.dumps({"host": "127.0.0.1", "debug": False}))
    environment = {
        "MLSERVER_HTTP_PORT": str(port),
        "MLSERVER_GRPC_PORT": str(port + 1),
        "MLSERVER_METRICS_PORT": str(port + 2),
        "MLSERVER_PARALLEL_WORKERS": "0",
    }
    command = [str(python.with_name("mlserver")), "start", str(directory)]
    how = "`parallel_workers=0` (no second process), uvloop, no access log"
    return [
        System(
            "MLServer",
            command,
            "peer",
            f"{how}; a handler of its own on the raw request, orjson",
            environment,
            python=python,
        ),
        System(
            "MLServer, batching",
            command,
            "peer",
            f"{how}; the open inference protocol, a string tensor of JSON rows, `max_batch_size={BATCH}`, "
            "`max_batch_time` 1 ms",
            environment,
            path="/v2/models/deepfm/infer",
            protocol="v2",
            python=python,
        ),
    ]


def _ray(peers: Path, port: int) -> list[System]:
    python = _python(peers, "ray")
    how = "one replica, `RAY_SERVE_THROUGHPUT_OPTIMIZED=1`, raw request, orjson, no access log"
    environment = {
        "PORT": str(port),
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "10000",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
    }
    command = [str(python), "ray_server.py"]
    return [
        System("Ray Serve", command, "peer", how, environment, python=python),
        System(
            "Ray Serve, batching",
            command,
            "peer",
            f"{how}; `serve.batch`, at most {BATCH}, 1 ms",
            {**environment, "BATCH": BATCH},
            python=python,
        ),
    ]


def _torchserve(root: Path, peers: Path, port: int) -> list[System]:
    python = _python(peers, "torchserve")
    store = root / "torchserve"
    store.mkdir(exist_ok=True)
    _write_archive(store / "deepfm.mar")
    how = "one worker, no snapshots, asynchronous logging, metrics to the log"

    def of(name: str, batch_size: int, more: str) -> System:
        config = store / f"config-{batch_size}.properties"
        model = {"defaultVersion": True, "marName": "deepfm.mar", "minWorkers": 1, "maxWorkers": 1}
        model |= {"batchSize": batch_size, "maxBatchDelay": 1, "responseTimeout": 60}
        lines = {
            "inference_address": f"http://127.0.0.1:{port}",
            "management_address": f"http://127.0.0.1:{port + 1}",
            "metrics_address": f"http://127.0.0.1:{port + 2}",
            "grpc_inference_port": port + 3,
            "grpc_management_port": port + 4,
            "grpc_inference_address": "127.0.0.1",
            "grpc_management_address": "127.0.0.1",
            "default_workers_per_model": 1,
            "number_of_netty_threads": 1,
            "netty_client_threads": 1,
            "job_queue_size": 1000,
            "async_logging": "true",
            "disable_system_metrics": "true",
            "disable_token_authorization": "true",
            "load_models": "deepfm.mar",
            "model_store": store,
            "models": json.dumps({"deepfm": {"1.0": model}}),
        }
        config.write_text("".join(f"{key}={value}\n" for key, value in lines.items()))
        command = [str(python.with_name("torchserve")), "--start", "--foreground", "--disable-token-auth"]
        command += ["--ts-config", str(config), "--model-store", str(store), "--ncs"]
        # It writes its logs to the directory in which it is started.
        environment = {"LOG_LOCATION": str(store), "METRICS_LOCATION": str(store), "TEMP": str(store)}
        environment["PYTHONPATH"] = str(PEER_CODE)
        return System(
            name, command, "peer", how + more, environment, "/predictions/deepfm", python=python, directory=store
        )

    return [
        of("TorchServe", 1, ""),
        of("TorchServe, batching", int(BATCH), f"; `batchSize={BATCH}`, `maxBatchDelay` 1 ms"),
    ]


def _write_archive(path: Path) -> None:
    manifest = {"createdOn": "", "runtime": "python", "archiverVersion": "0.12.0"}
    model = {"modelName": "deepfm", "handler": "torchserve_handler.py", "modelVersion": "1.0"}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps({**manifest, "model": model}))
        for name in ("torchserve_handler.py", "reference_model.py"):
            archive.write(PEER_CODE / name, name)
