"""The app under another ASGI server: the same answers and the same refusals, without the guarded protocol."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.hostile.corpus import GOOD
from tests.server import Server, serving

TYPED = {"content-type": "application/json"}
REQUESTS = [
    *(("PUT" if path == "/catalog" else "POST", path, body, TYPED) for path, body in GOOD.items()),
    ("POST", "/predict", b'{"instances": [{"price": "x"}, {"colour": 1}]}', TYPED),
    ("POST", "/predict", b"[]", TYPED),
    ("POST", "/predict", b"{}", {}),
    ("POST", "/predict", b" " * (5 << 20), TYPED),
    ("POST", "/predict", b"{}", {**TYPED, "x-request-timeout-ms": "soon"}),
    ("GET", "/predict", b"", {}),
    ("GET", "/nothing", b"", {}),
    ("GET", "/health/live", b"", {}),
    ("GET", "/health/ready", b"", {}),
    ("GET", "/openapi.json", b"", {}),
    ("GET", "/docs", b"", {}),
    ("GET", "/swagger/swagger-ui.css", b"", {}),
]


@pytest.fixture(scope="module")
def guarded(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(artifacts, catalog=tmp_path_factory.mktemp("catalog") / "catalog.json") as server:
        yield server


@pytest.fixture(scope="module")
def other(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("CTR_")}
    environment |= {"CTR_ARTIFACTS": str(artifacts), "CTR_DRAIN_S": "0"}
    environment["CTR_CATALOG"] = str(tmp_path_factory.mktemp("catalog") / "catalog.json")
    command = [sys.executable, "-m", "hypercorn", "--bind", f"127.0.0.1:{port}", "app.worker:create_worker()"]
    log = tmp_path_factory.mktemp("log") / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                assert process.poll() is None, log.read_text()
                with suppress(httpx.TransportError):
                    if client.get("/health/ready").status_code == httpx.codes.OK:
                        break
                time.sleep(0.05)
            yield client
    finally:
        process.terminate()
        process.wait(20)


def comparable(answer: httpx.Response) -> tuple[int, object, str | None]:
    kind = answer.headers.get("content-type")
    content: object = answer.content
    if kind is not None and "json" in kind:
        content = json.loads(answer.content)
        if isinstance(content, dict):
            content.pop("request_id", None)
    return answer.status_code, content, kind


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda r: f"{r[0]} {r[1]} {r[2][:30]!r}")
def test_answers_and_refusals_are_the_same(
    guarded: Server, other: httpx.Client, request_: tuple[str, str, bytes, dict[str, str]]
) -> None:
    method, path, body, headers = request_
    ours = guarded.client.request(method, path, content=body, headers=headers)
    theirs = other.request(method, path, content=body, headers=headers)
    assert comparable(ours) == comparable(theirs)
