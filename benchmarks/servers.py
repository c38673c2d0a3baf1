"""Starts, stops and asks a server under measurement."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx
import orjson

from benchmarks import processes

PEER_CODE = Path(__file__).parent / "peers"
PRODUCT = Path(__file__).parents[1]
START_DEADLINE_S = 90.0

Row = Mapping[str, Any]


@dataclass(frozen=True)
class System:
    """A server to measure.

    Args:
        name: unique, as printed.
        command: including the port.
        kind: ``ours``, ``naive``, ``floor`` (answers a constant) or ``peer``.
        how: its setup, for the page.
        environment: added to this process's own.
        path: of its prediction.
        protocol: ``rows`` is ``{"instances": [row, …]}``; ``v2`` the open inference protocol.
        python: interpreter of its environment.
        directory: to start in.
    """

    name: str
    command: Sequence[str]
    kind: Literal["ours", "naive", "floor", "peer"]
    how: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    path: str = "/predict"
    protocol: Literal["rows", "v2"] = "rows"
    python: Path = Path(sys.executable)
    directory: Path = PEER_CODE


class NotStarted(RuntimeError):
    """A server ended or did not answer in time; the message is the end of its log."""


def free_port(following: int = 0) -> int:
    """Return a free port of 127.0.0.1 whose ``following`` next ports are free too."""
    while True:
        with ExitStack() as stack:
            try:
                first = stack.enter_context(socket.socket())
                first.bind(("127.0.0.1", 0))
                port: int = first.getsockname()[1]
                for next_one in range(port + 1, port + 1 + following):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", next_one))
            except (OSError, OverflowError):
                continue
            return port


def ctrserve(artifacts: Path, port: int, *, core: int | None = None, **settings: object) -> System:
    """Return ctrserve with one worker and without Redis, unless ``settings`` say otherwise; on one ``core`` or on all."""
    environment = {"CTR_ARTIFACTS": str(artifacts), "CTR_PORT": str(port), "CTR_DRAIN_S": "0"}
    environment |= {f"CTR_{name.upper()}": str(value) for name, value in settings.items()}
    return System(
        "ctrserve",
        [*([] if core is None else ["taskset", "-c", str(core)]), sys.executable, "-m", "app"],
        "ours",
        "`python -m app` with its defaults: one worker, no Redis",
        environment,
        directory=PRODUCT,
    )


@contextmanager
def running(
    system: System, port: int, example: Row, log: Path, model: Path | None = None, key: str | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """Start a server and wait until it answers ``example``; yield the process and the seconds it took; end it in the end.

    Raises:
        NotStarted: it ended or did not answer in time.
    """
    # On SIGTERM, end the server too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CTR_", "PYTHON"))}
    environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": str(system.directory)}
    if model is not None:
        environment["BENCHMARK_MODEL"] = str(model)
    # A peer's launcher must find the programs of its own environment.
    environment["PATH"] = f"{system.python.parent}{os.pathsep}{environment.get('PATH', '')}"
    environment |= system.environment
    with log.open("wb") as output:
        started = time.monotonic()
        process = subprocess.Popen(
            list(system.command),
            cwd=system.directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait(system, process, port, example, log, key)
            yield process, time.monotonic() - started
        finally:
            processes.stop(process)


def _wait(
    system: System, process: subprocess.Popen[bytes], port: int, example: Row, log: Path, key: str | None
) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    with httpx.Client(timeout=5.0, headers={} if key is None else {"X-API-Key": key}) as client:
        while process.poll() is None and time.monotonic() < deadline:
            try:
                if ask(system, port, [example], client):
                    return
            except (httpx.HTTPError, KeyError, ValueError):
                time.sleep(0.02)
    raise NotStarted(log.read_text(errors="replace")[-2_000:] or "its log is empty")


def body_of(system: System, rows: Sequence[Row]) -> bytes:
    """Return the request for some rows in the protocol of the system."""
    if system.protocol == "rows":
        return orjson.dumps({"instances": list(rows)})
    # The open inference protocol has only tensors: a string tensor with the JSON of a row in each element.
    data = [orjson.dumps(row).decode() for row in rows]
    tensor = {"name": "rows", "shape": [len(data), 1], "datatype": "BYTES", "parameters": {"content_type": "str"}}
    return orjson.dumps({"inputs": [{**tensor, "data": data}]})


def ask(system: System, port: int, rows: Sequence[Row], client: httpx.Client) -> list[float]:
    """Return the probabilities that a system answers.

    Raises:
        httpx.HTTPError: there is no answer, or its status is an error.
        KeyError: the answer has another format.
    """
    answer = client.post(
        f"http://127.0.0.1:{port}{system.path}",
        content=body_of(system, rows),
        headers={"content-type": "application/json"},
    )
    answer.raise_for_status()
    document = answer.json()
    if isinstance(document, list):
        return document
    found: list[float] = document["outputs"][0]["data"] if "outputs" in document else document["predictions"]
    return found
