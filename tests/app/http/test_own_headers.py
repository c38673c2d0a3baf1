"""Headers of which each request has its own, on the short way: traces, ids, deadlines."""

from __future__ import annotations

import asyncio
import re
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from app.http.short_way import MAX_LEARNT
from tests.app.http.test_http_exchange import in_loop
from tests.app.scoring.test_at_once import PLAIN, ROWS, request, service

pytestmark = pytest.mark.skipif(find_spec("models._native") is None, reason="needs the compiled reader")


def own(number: int, timeout_ms: object = 60_000, row: Any = ROWS[0]) -> bytes:
    """A request as a traced client sends it."""
    headers = f"traceparent: 00-{number:032x}-{'b' * 16}-01\r\nx-request-id: {number}\r\n"
    return request([row], f"{PLAIN}{headers}x-request-timeout-ms: {timeout_ms}\r\n")


@in_loop
async def test_headers_that_each_request_has_of_its_own_are_read_from_each(artifacts: Path) -> None:
    async with service(artifacts) as running:
        connection = running.connect()
        for number in (1, 2):  # what differs is learnt from two
            assert connection.at_once(own(number, 1000 * number)) == b""
            await connection.ask(b"")
        for number in (3, 4):
            answer = connection.at_once(own(number, 1000 * number))
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"\r\ntraceparent: 00-%032x-" % number in answer
            assert (number, re.findall(rb"-(\w\w)\r\n", answer)) == (number, [b"01"])
            await asyncio.sleep(0)
        for timeout_ms, status in ((0, b"504"), (-1, b"504"), ("nan", b"422"), ("x", b"422"), (9, b"200")):
            assert (await connection.ask(own(5, timeout_ms)))[9:12] == status
            await asyncio.sleep(0)
        bad = await connection.ask(own(6, row={"user_id": "no number"}))
        assert (bad[9:12], f"{6:032x}".encode() in bad.partition(b"\r\n\r\n")[2]) == (b"422", True)


@in_loop
async def test_one_that_has_waited_too_long_for_the_turns_end_is_refused(artifacts: Path) -> None:
    async with service(artifacts) as running:
        connections = [running.connect() for _ in range(2)]
        for connection in connections:
            await connection.ask(own(1, 20))
            await connection.ask(own(2, 60_000))
            connection.wire.packets.clear()
        running.state["turns"].is_quiet, running.state["turns"]._patience = False, 9
        for connection, timeout_ms in zip(connections, (20, 60_000), strict=True):
            assert connection.at_once(own(3, timeout_ms)) == b""
        time.sleep(0.03)  # noqa: ASYNC251  # somebody keeps the loop
        await asyncio.sleep(0)
        answers = [b"".join(c.wire.packets) or await c.ask(b"") for c in connections]
        assert [answer[9:12] for answer in answers] == [b"504", b"200"]
        assert running.metrics()['ctr_shed_total{reason="deadline"}'] == 1


@in_loop
async def test_a_client_whose_heads_change_all_the_time_goes_the_ordinary_way(artifacts: Path) -> None:
    async with service(artifacts) as running:
        connection = running.connect()
        for number in range(2 * MAX_LEARNT):
            assert (await connection.ask(request([ROWS[0]], f"{PLAIN}x-{number}: 1\r\n")))[9:12] == b"200"
        assert connection.protocol._num_learnt == MAX_LEARNT
