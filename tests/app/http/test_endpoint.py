import asyncio
import gc
import json
import logging
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from app.http.admission import Admission, Uploads
from app.http.endpoint import Application, Endpoint
from app.main import create_app
from app.observability.metrics import Telemetry
from app.problems import Problem
from app.settings import Settings
from tests import in_process


async def no_framework(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("not for the framework")


def make_application(score: Any, telemetry: Telemetry) -> Application:
    endpoint = Endpoint(None, Admission(9, 999, telemetry), Uploads(999, telemetry), 99, telemetry)
    return Application(no_framework, {"/predict": partial(endpoint.answer, score=score)}, telemetry)


def ask(application: Application, *parts: bytes, method: str = "POST") -> tuple[int, dict[bytes, bytes], Any]:
    """Send a body in parts to /predict; return status, headers and answer."""
    sent: list[dict[str, Any]] = []
    waiting = list(parts)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": method, "path": "/predict", "headers": headers, "state": {}}
    asyncio.run(application(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), json.loads(sent[1]["body"])


def test_a_defect_is_a_500_for_its_request_alone_and_its_cause_is_in_the_log_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def score(body: bytes, deadline: float) -> bytes:
        if body == b"bad":
            raise FloatingPointError("s3cr3t")
        return b"[0.5]"

    telemetry = Telemetry()
    application = make_application(score, telemetry)
    with caplog.at_level(logging.INFO):
        status, _, problem = ask(application, b"bad")
    assert (status, problem["code"]) == (500, "internal_error")
    assert "s3cr3t" not in json.dumps(problem)
    assert "FloatingPointError: s3cr3t" in caplog.text
    assert {getattr(record, "request_id", None) for record in caplog.records} == {problem["request_id"]}
    assert telemetry.registry.get_sample_value("ctr_requests_total", {"path": "/predict", "status": "500"}) == 1
    status, _, answer = ask(application, b"good")
    assert (status, answer) == (200, [0.5])


def test_a_body_in_parts_is_put_together_and_bounded() -> None:
    async def score(body: bytes, deadline: float) -> bytes:
        return b"[%d]" % len(body)

    application = make_application(score, Telemetry())
    assert ask(application, b"a" * 50, b"b" * 49)[::2] == (200, [99])
    assert ask(application, b"a" * 50, b"b" * 50)[0] == 413
    assert ask(application, b"a" * 100)[0] == 413


def test_another_method_is_refused_and_a_draining_service_says_that_it_closes() -> None:
    async def score(body: bytes, deadline: float) -> bytes:
        return b"[]"

    application = make_application(score, Telemetry())
    status, headers, problem = ask(application, b"", method="GET")
    assert (status, headers[b"allow"], problem["code"]) == (405, b"POST", "method_not_allowed")
    application.is_draining = True
    status, headers, _ = ask(application, b"{}")
    assert (status, headers[b"connection"]) == (200, b"close")


@pytest.mark.parametrize(
    ("status", "path", "body", "method"),
    [
        (200, "/predict", b'{"instances": [{"price": 1}]}', "POST"),
        (200, "/rank", b'{"candidates": [{"price": 1}]}', "POST"),
        (405, "/predict", b"", "PUT"),
        (409, "/rank", b'{"candidate_ids": ["a"]}', "POST"),
        (413, "/predict", b" " * (5 << 20), "POST"),
        (422, "/predict", b"[", "POST"),
        (422, "/predict", b'{"instances": [{"price": "x"}]}', "POST"),
        (422, "/rank", b"[", "POST"),
        (200, "/explain", b'{"instances": [{"price": 1}]}', "POST"),
        (422, "/explain", b"[", "POST"),
        (503, "/predict", b"{}", "POST"),
    ],
)
def test_an_answer_leaves_no_cycle_that_would_hold_its_body_until_a_collection(
    artifacts: Path, status: int, path: str, body: bytes, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(admission: Admission, num_bytes: int = 0) -> None:
        raise Problem("overloaded", retry_after_s=1)

    if status == 503:
        monkeypatch.setattr(Admission, "check", refuse)

    async def run() -> list[str]:
        app = create_app(Settings(artifacts=artifacts, drain_s=0))
        async with in_process.running(app):
            assert (await in_process.ask(app, body, path, method))[0] == status
            gc.collect()
            gc.disable()
            await in_process.ask(app, body, path, method)
            await asyncio.sleep(0)  # the batcher's turn ends
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
        return [type(thing).__name__ for thing in gc.garbage]

    try:
        assert asyncio.run(run()) == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
