"""The app under another ASGI server: the same answers and the same refusals, without the guarded protocol."""

import json
import sys
from collections.abc import Iterator
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
def other(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    command = [sys.executable, "-m", "hypercorn", "--bind", "127.0.0.1:0", "app.worker:create_worker()"]
    catalog = tmp_path_factory.mktemp("catalog") / "catalog.json"
    with serving(artifacts, command=command, catalog=catalog) as server:
        yield server


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
    guarded: Server, other: Server, request_: tuple[str, str, bytes, dict[str, str]]
) -> None:
    method, path, body, headers = request_
    ours = guarded.client.request(method, path, content=body, headers=headers)
    theirs = other.client.request(method, path, content=body, headers=headers)
    assert comparable(ours) == comparable(theirs)
