"""Requests of one turn that are answered together; each alone, the ordinary way, is the oracle."""

from __future__ import annotations

import asyncio
import json
import random
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from app.scoring.micro_batcher import MAX_BATCH_ROWS
from models.network.head import Pooled
from models.network.predictor import Predictor
from tests.app.http.test_http_exchange import in_loop
from tests.app.scoring.test_at_once import ORDINARY, ROWS, Connection, Service, request, service

pytestmark = pytest.mark.skipif(find_spec("models._native") is None, reason="needs the compiled reader")
GOOD = request([ROWS[0]])


async def crowd_of(running: Service, num: int) -> list[Connection]:
    """Connections whose heads are known, of a service that takes all requests for a crowd's."""
    connections = [running.connect() for _ in range(num)]
    for connection in connections:
        await connection.ask(GOOD)
        connection.wire.packets.clear()
    stay_crowded(running)
    return connections


def stay_crowded(running: Service) -> None:
    running.state["turns"].is_quiet, running.state["turns"]._patience = False, 1_000_000


async def turn(connections: list[Connection], requests: list[bytes]) -> list[bytes]:
    """Bring a request to each connection in one turn; return what leaves for them."""
    for connection, data in zip(connections, requests, strict=True):
        assert connection.at_once(data) == b""
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return [taken(connection) or await connection.ask(b"") for connection in connections]


def taken(connection: Connection) -> bytes:
    return b"".join(connection.wire.packets)


def parted(answer: bytes) -> tuple[bytes, Any]:
    """An answer's status and headers, without what differs from request to request, and its body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return re.sub(rb"traceparent: \S+|content-length: \d+", b"", head), json.loads(body)


def assert_same(answer: bytes, expected: bytes) -> None:
    (head, body), (expected_head, expected_body) = parted(answer), parted(expected)
    assert head == expected_head
    if "predictions" in expected_body:
        assert body.pop("predictions") == pytest.approx(expected_body.pop("predictions"), abs=1e-6)
    for part in (body, expected_body):
        part.pop("request_id", None)
    assert body == expected_body


KINDS: list[Any] = [
    [ROWS[0]],
    [ROWS[1]],
    [ROWS[2]],
    ROWS,
    ROWS * 40,
    [ROWS[0]] * (MAX_BATCH_ROWS + 20),
    [{**ROWS[0], "unknown": 1}],
    [{"user_id": "no number"}],
    [],
]


@pytest.mark.parametrize("seed", range(6))
@in_loop
async def test_each_of_a_crowd_is_answered_and_counted_as_if_it_were_alone(artifacts: Path, seed: int) -> None:
    draw = random.Random(seed)
    async with service(artifacts) as ordinary, service(artifacts) as crowded:
        connections = await crowd_of(crowded, 12)
        alone = ordinary.connect()
        for _ in connections:
            await alone.ask(request([ROWS[0]], ORDINARY))
        for _ in range(4):
            bodies = [draw.choice(KINDS if seed else KINDS[:4]) for _ in connections]
            answers = await turn(connections, [request(body) for body in bodies])
            for body, answer in zip(bodies, answers, strict=True):
                assert_same(answer, await alone.ask(request(body, ORDINARY)))
            stay_crowded(crowded)
        assert crowded.state["gate"].num_requests == crowded.state["gate"].num_bytes == 0
        for running in (crowded, ordinary):
            running.hot_path._app.state.service.snapshot().scores.count()
        assert crowded.metrics() == ordinary.metrics()


@in_loop
async def test_answers_leave_in_one_packet_each_without_a_task(artifacts: Path) -> None:
    async with service(artifacts) as running:
        connections = await crowd_of(running, 5)
        for connection in connections:
            connection.at_once(GOOD)
            assert not connection.protocol.tasks
            connection.wire.packets.clear()
        assert running.state["gate"].num_requests == 5
        await asyncio.sleep(0)
        assert [len(connection.wire.packets) for connection in connections] == [1] * 5
        assert running.state["gate"].num_requests == 0


@in_loop
async def test_beyond_what_may_wait_a_request_is_refused_in_the_same_words(artifacts: Path) -> None:
    async with service(artifacts, max_waiting=3) as running:
        connections = await crowd_of(running, 5)
        refused = [connection.at_once(GOOD) for connection in connections]
        assert [answer[9:12] for answer in refused] == [b"", b"", b"", b"503", b"503"]
        assert running.metrics()['ctr_shed_total{reason="overloaded"}'] == 2
        running.state["gate"].num_requests += 1  # as the ordinary way says it
        connections[3].protocol._known = None
        ordinary = await connections[3].ask(GOOD)
        running.state["gate"].num_requests -= 1
        assert refused[4] == ordinary
        await asyncio.sleep(0)
        assert all(taken(connection)[9:12] == b"200" for connection in connections[:3])
        stay_crowded(running)
        assert all(answer[9:12] == b"200" for answer in await turn(connections[:3], [GOOD] * 3))


@in_loop
async def test_one_that_fails_does_not_take_the_others_with_it(
    artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score, poison = Predictor.score, {"user_id": None, "ad_id": "ad3"}
    async with service(artifacts) as running:
        snapshot = running.hot_path._app.state.service.snapshot()
        reading = snapshot.reader.read(json.dumps({"instances": [poison]}).encode())
        assert reading is not None
        user_row = reading.batch.ids[0]

        def sometimes(self: Predictor, pooled: Pooled) -> Any:
            found = score(self, pooled).copy()
            found[pooled.ids.reshape(len(found), -1)[:, 0] == user_row] = np.nan
            return found

        connections = await crowd_of(running, 4)
        monkeypatch.setattr(Predictor, "score", sometimes)
        answers = await turn(connections, [GOOD, request([poison]), GOOD, GOOD])
        assert [answer[9:12] for answer in answers] == [b"200", b"500", b"200", b"200"]


@in_loop
async def test_a_defect_is_told_and_each_is_answered_by_itself(
    artifacts: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with service(artifacts) as running:
        connections = await crowd_of(running, 3)
        monkeypatch.setattr("app.scoring.predict.EncodedBatch.join", lambda _: 1 / 0)
        answers = await turn(connections, [GOOD] * 3)
        assert [answer[9:12] for answer in answers] == [b"200"] * 3
        assert [line.message for line in caplog.records if line.levelname == "ERROR"] == [
            "a defect in answering at once"
        ]


@in_loop
async def test_more_bytes_in_the_same_turn_go_to_the_parser_behind_the_request(artifacts: Path) -> None:
    async with service(artifacts) as running:
        first, second = await crowd_of(running, 2)
        first.protocol.data_received(GOOD)
        second.protocol.data_received(GOOD)
        first.protocol.data_received(GOOD + GOOD[:50])
        answer = await first.ask(GOOD[50:])
        assert answer.count(b"HTTP/1.1 200") == 3
        assert taken(second).count(b"HTTP/1.1 200") == 1
        assert running.state["gate"].num_requests == 0


@in_loop
async def test_who_has_gone_is_not_answered_and_leaves_the_gate(artifacts: Path) -> None:
    async with service(artifacts) as running:
        lost, closing, stays = await crowd_of(running, 3)
        for connection in (lost, closing, stays):
            connection.at_once(GOOD)
        lost.protocol.connection_lost(None)
        closing.wire.is_closed = True
        for connection in (lost, closing, stays):
            connection.wire.packets.clear()
        await asyncio.sleep(0)
        assert (taken(lost), taken(closing), taken(stays)[9:12]) == (b"", b"", b"200")
        assert running.state["gate"].num_requests == running.state["gate"].num_bytes == 0


@in_loop
async def test_a_service_that_stops_answers_what_waits_and_then_closes(artifacts: Path) -> None:
    async with service(artifacts) as running:
        (connection,) = await crowd_of(running, 1)
        connection.at_once(GOOD)
        connection.wire.packets.clear()
        connection.protocol.shutdown()
        assert not connection.wire.is_closed
        assert (await connection.ask(b"")).startswith(b"HTTP/1.1 200")
        assert connection.wire.is_closed


@in_loop
async def test_a_connection_with_a_request_that_waits_is_not_idle(artifacts: Path) -> None:
    async with service(artifacts) as running:
        (connection,) = await crowd_of(running, 1)
        connection.protocol._active_at -= 1_000
        connection.protocol.data_received(GOOD)
        connection.protocol.timeout_keep_alive_handler()
        assert not connection.wire.is_closed
        await asyncio.sleep(0)
        assert taken(connection).startswith(b"HTTP/1.1 200")
        cast(Any, connection.protocol).timeout_keep_alive_task.cancel()
