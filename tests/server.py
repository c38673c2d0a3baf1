"""A real server process for tests: ``python -m app`` on a port that the system chooses."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

START_DEADLINE_S = 60.0


@dataclass(frozen=True)
class Server:
    """A running server."""

    client: httpx.Client
    process: subprocess.Popen[bytes]
    log: Path

    def metric(self, name: str, **labels: str) -> float:
        """Return one sample of /metrics, 0 when it is not there yet."""
        wanted = {f'{key}="{value}"' for key, value in labels.items()}
        for line in self.client.get("/metrics").text.splitlines():
            sample = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
            if sample and sample[1] == name and set(filter(None, (sample[2] or "").split(","))) == wanted:
                return float(sample[3])
        return 0.0

    def wait_until_ready(self) -> None:
        """Wait until a model is loaded."""
        self.wait_for(lambda: self.client.get("/health/ready").status_code == httpx.codes.OK)

    def wait_for(self, done: Callable[[], bool]) -> None:
        """Wait until ``done()``; a server that does not listen yet is not done."""
        deadline = time.monotonic() + START_DEADLINE_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            with suppress(httpx.ConnectError):
                if done():
                    return
            time.sleep(0.02)
        raise AssertionError(f"not within {START_DEADLINE_S} s:\n{self.log.read_text()}")


@contextmanager
def serving(
    artifacts: Path, *, ready: bool = True, command: Sequence[str] = (sys.executable, "-m", "app"), **settings: object
) -> Iterator[Server]:
    """Start a server, wait until it listens and, unless told otherwise, is ready; stop it by SIGTERM at the end.

    Args:
        artifacts: directory of artifacts.
        ready: whether to wait for a model.
        command: that starts it; it logs the address that it listens on.
        settings: further settings by name, without prefix.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("CTR_")}
    environment |= {"CTR_ARTIFACTS": str(artifacts), "CTR_PORT": "0", "CTR_POLL_S": "0.05", "CTR_DRAIN_S": "0"}
    environment |= {f"CTR_{name.upper()}": str(value) for name, value in settings.items()}
    # A file, not a pipe: a full pipe would stop the server.
    with tempfile.NamedTemporaryFile(suffix=".log") as output:
        process = subprocess.Popen(list(command), env=environment, stdout=output, stderr=subprocess.STDOUT)
        log = Path(output.name)
        try:
            port = _listening_port(process, log)
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
                server = Server(client, process, log)
                if ready:
                    server.wait_until_ready()
                yield server
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise AssertionError(f"did not stop on SIGTERM:\n{log.read_text()}") from None


def _listening_port(process: subprocess.Popen[bytes], log: Path) -> int:
    deadline = time.monotonic() + START_DEADLINE_S
    while time.monotonic() < deadline:
        found = re.search(r"[Rr]unning on http://[\d.]+:(\d+)", log.read_text())
        if found:
            return int(found[1])
        assert process.poll() is None, log.read_text()
        time.sleep(0.02)
    raise AssertionError(f"does not listen:\n{log.read_text()}")
