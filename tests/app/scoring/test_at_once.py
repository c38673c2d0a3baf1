"""Requests that are answered within the call that brings their bytes; the ordinary way is the oracle."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import uvicorn
from uvicorn.server import ServerState

from app.http.short_way import ShortWayProtocol
from app.http.turns import MANY
from app.main import create_app
from app.settings import Settings
from tests.app.http.test_http_exchange import Wire, in_loop

pytestmark = pytest.mark.skipif(find_spec("models._native") is None, reason="needs the compiled reader")
ROWS: list[dict[str, Any]] = [
    {"user_id": 7, "ad_id": "ad3", "price": 1.5},
    {"user_id": 7, "site": "never seen", "clicked_ads": ["ad1", "ad2"], "ad_id": "ad3", "price": None},
    {},
]
PLAIN = "host: a\r\ncontent-type: application/json\r\n"
ORDINARY = PLAIN.replace("application/json", "Application/JSON")


def request(instances: Any, headers: str = PLAIN, path: str = "/predict") -> bytes:
    body = json.dumps({"instances": instances})
    return f"POST {path} HTTP/1.1\r\n{headers}content-length: {len(body)}\r\n\r\n{body}".encode()


class Connection:
    """A connection to a service without a socket."""

    def __init__(self, config: uvicorn.Config, state: dict[str, Any]) -> None:
        self.wire = Wire()
        self.server_state = ServerState()
        self.server_state.default_headers = [(b"date", b"today")]
        self.protocol = ShortWayProtocol(config, self.server_state, state, asyncio.get_running_loop())
        self.protocol.connection_made(cast(asyncio.Transport, self.wire))

    def at_once(self, data: bytes) -> bytes:
        """Bring bytes; return what has left before the call's end."""
        self.wire.packets.clear()
        self.protocol.data_received(data)
        return b"".join(self.wire.packets)

    async def ask(self, data: bytes) -> bytes:
        """Bring bytes; return what leaves for them, at once or not."""
        answer = self.at_once(data)
        while self.protocol.tasks:
            await asyncio.gather(*self.protocol.tasks)
            await asyncio.sleep(0)
            answer = b"".join(self.wire.packets)
        await asyncio.sleep(0)
        return answer


class Service:
    """A running app; its metrics, and connections to it."""

    def __init__(self, app: Any, state: dict[str, Any]) -> None:
        self.hot_path = app
        self.state = state
        self._config = uvicorn.Config(app, http=ShortWayProtocol, ws="none", lifespan="off", log_config=None)
        self._config.load()

    def connect(self) -> Connection:
        return Connection(self._config, dict(self.state))

    def metrics(self) -> dict[str, float]:
        """All that counts: no times."""
        text = self.hot_path._app.state.service.telemetry.exposition().decode()
        lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
        return {name: float(x) for name, _, x in lines if not re.search("_seconds_(sum|bucket)|_created|stage", name)}


@asynccontextmanager
async def service(artifacts: Path, **settings: Any) -> AsyncIterator[Service]:
    app = create_app(Settings(artifacts=artifacts, **settings))
    fast_api = cast(Any, app._app)
    async with fast_api.router.lifespan_context(fast_api) as state:
        yield Service(app, state)


def without_trace(answer: bytes) -> bytes:
    return re.sub(rb"traceparent: 00-[0-9a-f]{32}-[0-9a-f]{16}-00", b"traceparent:", answer)


@in_loop
async def test_what_is_answered_at_once_is_answered_and_counted_as_ever(artifacts: Path) -> None:
    async with service(artifacts) as ordinary, service(artifacts) as quick:
        slow, fast = ordinary.connect(), quick.connect()
        assert fast.at_once(request(ROWS)) == b""  # the first one's head is for the parser
        await fast.ask(b"")
        await slow.ask(request(ROWS, ORDINARY))
        for instances in ([ROWS[0]], [ROWS[1]], [ROWS[2]], ROWS, ROWS * 30):
            answer = fast.at_once(request(instances))
            expected = await slow.ask(request(instances, ORDINARY))
            assert without_trace(answer) == without_trace(expected)
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert len(fast.wire.packets) == 1
            await asyncio.sleep(0)
        assert quick.metrics() == ordinary.metrics()
        assert (fast.server_state.total_requests, slow.server_state.total_requests) == (6, 6)


@in_loop
async def test_a_request_that_is_none_of_those_goes_the_ordinary_way(artifacts: Path) -> None:
    good, bad = request([ROWS[0]]), request([{"user_id": "no number"}])
    async with service(artifacts, max_body_bytes=4_000) as running:
        for data, status in (
            (bad, b"422"),
            (request([ROWS[0]], ORDINARY), b"200"),
            (request([ROWS[0]], PLAIN + "connection: close\r\n"), b"200"),
            (request([ROWS[0]], PLAIN.replace("json", "xml")), b"415"),
            (request([ROWS[0]], PLAIN + "content-encoding: gzip\r\n"), b"415"),
            (request([ROWS[0]] * 200), b"413"),
            (request([ROWS[0]], path="/nothing"), b"404"),
            (good.replace(b"content-length: ", b"content-length: +"), b"400"),
            (request([{**ROWS[0], "unknown": 1}]), b"200"),
        ):
            connection = running.connect()
            await connection.ask(good)
            assert connection.at_once(good).startswith(b"HTTP/1.1 200")
            await asyncio.sleep(0)
            answer = await connection.ask(data)
            assert answer.startswith(b"HTTP/1.1 " + status), (data, answer)
            if not connection.wire.is_closed and status != b"413":
                await asyncio.sleep(0)
                assert connection.at_once(good).startswith(b"HTTP/1.1 200")
                await asyncio.sleep(0)


@in_loop
async def test_pieces_and_pipelines_are_for_the_parser(artifacts: Path) -> None:
    good = request([ROWS[0]])
    async with service(artifacts) as running:
        connection = running.connect()
        await connection.ask(good)
        assert connection.at_once(good[:40]) == b""
        assert (await connection.ask(good[40:])).count(b"HTTP/1.1 200") == 1
        assert connection.at_once(good[:-3]) == b""
        assert (await connection.ask(good[-3:])).count(b"HTTP/1.1 200") == 1
        assert (await connection.ask(good + good)).count(b"HTTP/1.1 200") == 2
        assert connection.at_once(good).count(b"HTTP/1.1 200") == 1
        assert connection.at_once(b"\r\n") == b""
        assert (await connection.ask(good)).count(b"HTTP/1.1 200") == 1
        assert connection.at_once(good).count(b"HTTP/1.1 200") == 1


@in_loop
async def test_in_a_crowd_and_while_others_wait_nobody_is_answered_at_once(artifacts: Path) -> None:
    good = request([ROWS[0]])
    async with service(artifacts) as running:
        connections = [running.connect() for _ in range(MANY + 2)]
        for connection in connections:
            await connection.ask(good)
        answers = [connection.at_once(good) for connection in connections]
        assert [bool(answer) for answer in answers] == [True] * MANY + [False] * 2
        await asyncio.gather(*connections[-1].protocol.tasks, *connections[-2].protocol.tasks)
        await asyncio.sleep(0)
        assert all(b"".join(connection.wire.packets).startswith(b"HTTP/1.1 200") for connection in connections)
        running.state["turns"]._patience = 0
        await asyncio.sleep(0)
        assert connections[0].at_once(good)
        running.state["gate"].num_requests += 1
        assert not connections[1].at_once(good)
        running.state["gate"].num_requests -= 1


@in_loop
async def test_draining_and_paused_connections_go_the_ordinary_way(artifacts: Path) -> None:
    good = request([ROWS[0]])
    async with service(artifacts) as running:
        connection, paused = running.connect(), running.connect()
        await connection.ask(good)
        await paused.ask(good)
        paused.protocol.pause_writing()  # its client does not read
        assert paused.at_once(good) == b""
        paused.protocol.resume_writing()
        await paused.ask(b"")
        running.hot_path.is_draining = True
        answer = await connection.ask(good)
        assert b"\r\nconnection: close\r\n" in answer
        assert connection.wire.is_closed


@in_loop
async def test_keys_are_looked_at_each_time(artifacts: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    lines = [f"{name} predict {hashlib.sha256(name.encode()).hexdigest()}" for name in ("one", "other")]
    keys.write_text("\n".join(lines))
    async with service(artifacts, keys=keys, poll_s=0.01) as running:
        connection, good = running.connect(), request([ROWS[0]], f"{PLAIN}x-api-key: one\r\n")
        await connection.ask(good)
        assert connection.at_once(good).startswith(b"HTTP/1.1 200")
        keys.write_text(lines[1])
        for _ in range(1_000):
            if (await connection.ask(good))[9:12] == b"401":
                break
            await asyncio.sleep(0.01)
        assert (await connection.ask(good))[9:12] == b"401"


@in_loop
async def test_each_request_is_counted_once_for_its_keys_quota_whichever_way_it_goes(
    artifacts: Path, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"a predict {hashlib.sha256(b'a').hexdigest()} 6\n")
    with_key = f"{PLAIN}x-api-key: a\r\n"
    good, bad = request([ROWS[0]], with_key), request([{"user_id": "no number"}], with_key)
    async with service(artifacts, keys=keys) as running:
        cast(Any, running.hot_path._keys)._clock = lambda: 100.0  # nothing is filled up
        connection = running.connect()
        assert (await connection.ask(good))[9:12] == b"200"
        assert connection.at_once(good)[9:12] == b"200"
        await asyncio.sleep(0)
        assert (await connection.ask(bad))[9:12] == b"422"  # begun at once, and explained the ordinary way
        running.state["turns"].is_quiet, running.state["turns"]._patience = False, 9
        for data, status in ((good, b"200"), (bad, b"422")):
            assert connection.at_once(data) == b""
            await asyncio.sleep(0)
            assert (connection.wire.packets or [await connection.ask(b"")])[0][9:12] == status
        running.state["gate"]._max_requests = running.state["gate"].num_requests = 1
        assert connection.at_once(good)[9:12] == b"503"  # not counted
        running.state["gate"].num_requests = 0
        running.state["turns"]._patience = 0
        await asyncio.sleep(0)
        running.state["turns"].is_quiet = True
        assert [(await connection.ask(good))[9:12] for _ in range(3)] == [b"200", b"429", b"429"]


@in_loop
async def test_a_connection_is_kept_from_its_last_answer_on(artifacts: Path) -> None:
    good = request([ROWS[0]])
    async with service(artifacts) as running:
        connection = running.connect()
        connection.protocol.timeout_keep_alive = cast(Any, 0.3)
        loop = asyncio.get_running_loop()
        await connection.ask(good)
        for _ in range(3):
            await asyncio.sleep(0.2)
            assert connection.at_once(good)
        answered = loop.time()
        for _ in range(1_000):
            await asyncio.sleep(0.01)
            if connection.wire.is_closed:
                break
        assert connection.wire.is_closed
        assert loop.time() - answered >= 0.29


@in_loop
async def test_nothing_is_begun_at_once_where_rows_may_have_to_be_waited_for(artifacts: Path) -> None:
    good = request([ROWS[0]])
    async with service(artifacts) as running:
        connection = running.connect()
        await connection.ask(good)
        source = running.hot_path._app.state.service.snapshot().source
        source._redis, source._hot.is_whole = cast(Any, SimpleNamespace(is_available=True)), False
        assert connection.at_once(good) == b""
        source._redis, source._hot.is_whole = None, True
        assert (await connection.ask(b"")).startswith(b"HTTP/1.1 200")
        assert connection.at_once(good).startswith(b"HTTP/1.1 200")
