import asyncio
import json
import logging
from typing import Any

import pytest

from app.http.endpoint import HotPath
from app.observability.metrics import Telemetry


async def no_app(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("not for the app")


def ask(hot_path: HotPath, body: bytes) -> tuple[int, Any]:
    """Post a body to /predict; return the status and the answer."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": headers, "state": {}}
    asyncio.run(hot_path(scope, receive, send))
    return sent[0]["status"], json.loads(sent[1]["body"])


def test_a_handler_that_raises_is_a_500_for_its_request_alone_and_the_cause_is_in_the_log_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handle(body: bytes) -> bytes:
        if body == b"bad":
            raise FloatingPointError("s3cr3t")
        return b"[0.5]"

    telemetry = Telemetry()
    hot_path = HotPath(no_app, {"/predict": handle}, None, (), max_body_bytes=99, telemetry=telemetry, keys=None)
    with caplog.at_level(logging.INFO):
        status, problem = ask(hot_path, b"bad")
    assert (status, problem["code"]) == (500, "internal_error")
    assert "s3cr3t" not in json.dumps(problem)
    assert "FloatingPointError: s3cr3t" in caplog.text
    assert {getattr(record, "request_id", None) for record in caplog.records} == {problem["request_id"]}
    assert telemetry.requests.labels("/predict", "500")._value.get() == 1
    assert ask(hot_path, b"good") == (200, [0.5])
