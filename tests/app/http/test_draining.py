"""Starting, stopping and slow clients, with a real process."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.clients import children, open_with
from tests.server import serving

ROW = {"user_id": 7, "ad_id": "ad3", "price": 1.5}


def until(done: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_clients_with_kept_connections_see_no_error_when_the_service_stops(artifacts: Path) -> None:
    answered, failures = [0] * 8, list[str]()

    def client(i: int, url: str) -> None:
        # As a well-behaved client does: goes on until it is told to close, then looks for a service that is ready.
        with httpx.Client(base_url=url, timeout=10) as http:
            while True:
                try:
                    answer = http.post("/predict", json={"instances": [ROW]})
                except httpx.TransportError as error:
                    failures.append(repr(error))
                    return
                answered[i] += 1
                if answer.status_code != 200:
                    failures.append(answer.text)
                if answer.headers.get("connection") == "close":
                    return

    with serving(artifacts, drain_s=1) as server:
        clients = [threading.Thread(target=client, args=(i, str(server.client.base_url))) for i in range(8)]
        for thread in clients:
            thread.start()
        until(lambda: min(answered) > 20)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: httpx.get(f"{server.client.base_url}/health/ready").status_code == 503, 0.9)
        assert httpx.get(f"{server.client.base_url}/health/ready").json()["code"] == "draining"
        assert httpx.post(f"{server.client.base_url}/predict", json={"instances": [ROW]}).status_code == 200
        for thread in clients:
            thread.join(10)
        assert server.process.wait(10) == 0
    assert failures == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_second_signal_skips_the_grace_and_the_exit_code_is_zero(artifacts: Path, workers: int) -> None:
    with serving(artifacts, drain_s=60, workers=workers) as server:
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert server.process.poll() is None
        if workers == 1:
            server.process.send_signal(signal.SIGTERM)
        else:
            for child in children(server):
                os.kill(child, signal.SIGTERM)
        assert server.process.wait(10) == 0


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 2\r\nContent-Length: 2\r\n",
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Type: application/json\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n",
        b"Host: y\r\nContent-Length: 2\r\n",
    ],
    ids=repr,
)
def test_doubled_or_contradictory_headers_are_refused(artifacts: Path, headers: bytes) -> None:
    with (
        serving(artifacts) as server,
        open_with(server, b"POST /predict HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n{}") as connection,
    ):
        assert connection.recv(1_000).startswith(b"HTTP/1.1 400")
        assert connection.recv(1_000) == b""


def test_a_port_that_is_taken_ends_the_process_with_a_reason(artifacts: Path) -> None:
    with serving(artifacts) as server:
        environment = {
            **os.environ,
            "CTR_ARTIFACTS": str(artifacts),
            "CTR_PORT": str(server.client.base_url.port),
            "CTR_DRAIN_S": "0",
        }
        second = subprocess.run(
            [sys.executable, "-m", "app"], env=environment, capture_output=True, text=True, timeout=30, check=False
        )
        assert second.returncode != 0
        assert "address already in use" in second.stderr
