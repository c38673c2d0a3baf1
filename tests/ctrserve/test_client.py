"""Clients: typed answers, one deadline, and attempts only where they do no harm."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import httpx
import pytest

import ctrserve
from ctrserve import calls

ANSWER = {"predictions": [0.25], "model_version": "v1", "unseen": {"user_id": 1}, "later": "not known yet"}
BUSY = httpx.Response(503, json={"title": "busy", "status": 503, "code": "overloaded"})
REFUSAL = {
    "title": "no fit",
    "status": 422,
    "code": "invalid_input",
    "errors": [{"message": "row 0"}],
    "request_id": "r1",
}

Handler = Callable[[httpx.Request], httpx.Response]


class Service:
    """Gives its replies one after the other, the last again and again."""

    def __init__(self, *replies: httpx.Response | Exception) -> None:
        self._replies = list(replies)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
        if isinstance(reply, Exception):
            raise reply
        return httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)  # one is read once


def ask(service: Service, call: Callable[[Any], Any], *, is_async: bool, **options: Any) -> Any:
    """Make a call by one of the two clients."""
    transport = httpx.MockTransport(service)
    if not is_async:
        with ctrserve.Client("http://service", transport=transport, **options) as client:
            return call(client)

    async def run() -> Any:
        async with ctrserve.AsyncClient("http://service", transport=transport, **options) as client:
            return await call(client)

    return asyncio.run(run())


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "FIRST_PAUSE_S", 0.0)


both = pytest.mark.parametrize("is_async", [False, True], ids=["threads", "asyncio"])


@both
def test_an_answer_is_typed_and_parts_of_a_later_service_are_left_out(is_async: bool) -> None:
    service = Service(httpx.Response(200, json=ANSWER))
    found = ask(service, lambda c: c.predict([{"user_id": 7}]), is_async=is_async, key="secret", deadline_s=2.0)
    assert found == ctrserve.Predictions([0.25], "v1", unseen={"user_id": 1})
    (request,) = service.requests
    assert request.headers["x-api-key"] == "secret"
    assert 0 < int(request.headers["x-request-timeout-ms"]) <= 2_000
    assert request.content == b'{"instances":[{"user_id":7}]}'


@both
@pytest.mark.parametrize(
    "fault", [httpx.ConnectError("refused"), httpx.ReadError("cut"), BUSY, httpx.Response(502)], ids=str
)
def test_a_prediction_is_asked_for_again(fault: httpx.Response | Exception, is_async: bool) -> None:
    service = Service(fault, httpx.Response(200, json=ANSWER))
    assert ask(service, lambda c: c.predict({"user_id": [7]}), is_async=is_async).probabilities == [0.25]
    assert len(service.requests) == 2


@both
def test_a_rollback_without_a_target_is_not_sent_twice_unless_it_did_nothing(is_async: bool) -> None:
    served = httpx.Response(200, json={"model_version": "v1", "previous": None})
    cut = Service(httpx.ReadError("cut"), served)
    with pytest.raises(ctrserve.Unreachable, match="cut"):
        ask(cut, lambda c: c.rollback(), is_async=is_async)
    assert len(cut.requests) == 1
    for fault in (httpx.ConnectError("refused"), BUSY):
        assert ask(Service(fault, served), lambda c: c.rollback(), is_async=is_async).model_version == "v1"
    assert ask(Service(httpx.ReadError("cut"), served), lambda c: c.rollback("v1"), is_async=is_async).previous is None


@both
def test_a_refusal_says_why_and_is_not_asked_again(is_async: bool) -> None:
    service = Service(httpx.Response(422, json=REFUSAL))
    with pytest.raises(ctrserve.Refused, match="422 invalid_input: no fit: row 0") as refused:
        ask(service, lambda c: c.rank({}, []), is_async=is_async)
    assert (refused.value.code, refused.value.request_id, len(service.requests)) == ("invalid_input", "r1", 1)


@both
def test_attempts_end(is_async: bool) -> None:
    with pytest.raises(ctrserve.Refused, match="overloaded"):
        ask(busy := Service(BUSY), lambda c: c.put_catalog({}), is_async=is_async)
    assert len(busy.requests) == calls.MAX_ATTEMPTS
    gone = Service(httpx.ConnectError("refused"))
    with pytest.raises(ctrserve.Unreachable, match="/admin/promote: refused"):
        ask(gone, lambda c: c.promote("v1"), is_async=is_async)
    assert len(gone.requests) == calls.MAX_ATTEMPTS
    assert not ask(Service(BUSY), lambda c: c.is_ready(), is_async=is_async)


@both
def test_a_deadline_is_not_passed_for_a_pause(is_async: bool) -> None:
    later = httpx.Response(503, json={"code": "no_model"}, headers={"retry-after": "9"})
    service = Service(later)
    with pytest.raises(ctrserve.Refused, match="no_model"):
        ask(service, lambda c: c.model(), is_async=is_async, deadline_s=1.0)
    assert len(service.requests) == 1
    with pytest.raises(ctrserve.DeadlineExceeded):
        ask(Service(httpx.ReadTimeout("late")), lambda c: c.model(), is_async=is_async)
    with pytest.raises(ctrserve.DeadlineExceeded):
        ask(service, lambda c: c.model(), is_async=is_async, deadline_s=0.0)


def test_an_answer_that_trickles_ends_by_the_deadline() -> None:
    async def forever(request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async def run() -> None:
        async with ctrserve.AsyncClient(transport=httpx.MockTransport(forever), deadline_s=0.02) as client:
            await client.model()

    with pytest.raises(ctrserve.DeadlineExceeded):
        asyncio.run(run())


def test_both_clients_have_the_same_methods() -> None:
    def methods(kind: type) -> dict[str, list[str]]:
        found = inspect.getmembers(kind, inspect.isfunction)
        return {
            n: list(inspect.signature(f).parameters) for n, f in found if n[0] != "_" and n not in ("close", "aclose")
        }

    assert methods(ctrserve.Client) == methods(ctrserve.AsyncClient)
