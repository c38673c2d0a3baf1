"""The service's own two ends of a request against uvicorn's, which are the oracle: the same bytes, in one packet."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, cast

import pytest
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from app.http.admission import Gate
from app.http.crowd import Crowd
from app.http.endpoint import CLOSE, HotPath
from app.http.guarded_protocol import BoundedHttpProtocol
from app.http.http_exchange import Exchange, Outbox
from app.http.turns import Turns
from app.observability.metrics import Telemetry

JSON = (b"content-type", b"application/json")
Send = Callable[[Any], Awaitable[None]]


def in_loop(test: Callable[..., Coroutine[None, None, None]]) -> Callable[..., None]:
    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


class Wire:
    """A transport that remembers each packet."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.packets.append(data)

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def get_extra_info(self, name: str) -> None: ...


def cycle_over(wire: Wire, *, keep_alive: bool = True, more_body: bool = False) -> RequestResponseCycle:
    transport = cast(asyncio.Transport, wire)
    log = logging.getLogger("test")
    cycle = RequestResponseCycle(
        scope=cast(Any, {"type": "http", "method": "POST", "http_version": "1.1"}),
        transport=transport,
        flow=FlowControl(transport),
        logger=log,
        access_logger=log,
        access_log=False,
        default_headers=[(b"date", b"today")],
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=keep_alive,
        on_response=lambda: None,
    )
    cycle.body += b'{"a": 1}'
    cycle.more_body = more_body
    cycle.message_event.set()
    return cycle


def exchange_of(
    cycle: RequestResponseCycle,
    parts: list[bytes] | None = None,
    *,
    others: int = 0,
    outbox: Outbox | None = None,
) -> Exchange:
    gate = Gate(9, 99, 99, Telemetry())
    gate.num_requests = 1 + others
    return Exchange(cycle, gate, outbox or Outbox(asyncio.get_running_loop()), parts, is_chunked=False)


def state_with(gate: Gate) -> dict[str, object]:
    """What a connection needs of a process whose requests are all answered the ordinary way."""
    loop = asyncio.get_running_loop()
    hot_path = HotPath(cast(Any, None), {}, None, (), max_body_bytes=99, telemetry=Telemetry(), keys=None)
    state = {"gate": gate, "outbox": Outbox(loop), "turns": Turns(loop), "hot_path": hot_path}
    return {**state, "crowd": Crowd(loop, hot_path)}


async def answer(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.mark.parametrize("status", [200, 401, 413, 422, 429, 500, 503, 504])
@pytest.mark.parametrize("keep_alive", [True, False])
@pytest.mark.parametrize("is_draining", [True, False])
@in_loop
async def test_an_answer_is_the_bytes_of_uvicorns(status: int, keep_alive: bool, is_draining: bool) -> None:
    headers = [JSON, (b"content-length", b"5"), (b"retry-after", b"1"), *([CLOSE] if is_draining else [])]
    ours, theirs = Wire(), Wire()
    cycle, oracle = cycle_over(ours, keep_alive=keep_alive), cycle_over(theirs, keep_alive=keep_alive)
    await answer(exchange_of(cycle).send, status, headers, b"[0.5]")
    await answer(oracle.send, status, headers, b"[0.5]")
    assert b"".join(ours.packets) == b"".join(theirs.packets)
    assert (ours.is_closed, cycle.response_complete) == (theirs.is_closed, oracle.response_complete)
    assert len(ours.packets) == (1 if keep_alive and not is_draining else 2)


@in_loop
async def test_an_answer_in_parts_goes_uvicorns_way() -> None:
    ours, theirs = Wire(), Wire()
    for send in (exchange_of(cycle_over(ours)).send, cycle_over(theirs).send):
        await send({"type": "http.response.start", "status": 200, "headers": [JSON]})
        await send({"type": "http.response.body", "body": b"[0.", "more_body": True})
        await send({"type": "http.response.body", "body": b"5]"})
    assert ours.packets == theirs.packets


@in_loop
async def test_a_whole_body_is_given_once_and_waited_for() -> None:
    whole = exchange_of(cycle_over(Wire()), [b'{"a": ', b"1}"])
    assert await whole.receive() == {"type": "http.request", "body": b'{"a": 1}', "more_body": False}
    for is_lost in (True, False):
        cycle, parts = cycle_over(Wire(), more_body=True), [b'{"a"']
        waiting = asyncio.ensure_future(exchange_of(cycle, parts).receive())
        await asyncio.sleep(0.01)
        assert not waiting.done()
        parts.append(b": 1}")
        cycle.disconnected, cycle.more_body = is_lost, False
        cycle.message_event.set()
        message = {"type": "http.request", "body": b'{"a": 1}', "more_body": False}
        assert await waiting == ({"type": "http.disconnect"} if is_lost else message)


@in_loop
async def test_a_body_through_uvicorns_buffer_comes_in_parts() -> None:
    cycle = cycle_over(Wire(), more_body=True)
    exchange = exchange_of(cycle)
    assert await exchange.receive() == {"type": "http.request", "body": b'{"a": 1}', "more_body": True}
    waiting = asyncio.ensure_future(exchange.receive())
    await asyncio.sleep(0)
    assert not waiting.done()
    cycle.disconnected = True
    cycle.message_event.set()
    assert await waiting == {"type": "http.disconnect"}


@in_loop
async def test_answers_of_one_turn_leave_together_at_its_end() -> None:
    outbox, wires = Outbox(asyncio.get_running_loop()), [Wire(), Wire(), Wire()]
    cycles = [cycle_over(wire) for wire in wires]
    for cycle in cycles:
        await answer(exchange_of(cycle, others=2, outbox=outbox).send, 200, [JSON, (b"content-length", b"1")], b"1")
    cycles[1].disconnected = True
    assert not any(wire.packets for wire in wires)
    assert not any(cycle.response_complete for cycle in cycles)  # a server that stops would close their connections
    cycles[2].keep_alive = False  # as uvicorn says when it stops
    await asyncio.sleep(0)
    assert [len(wire.packets) for wire in wires] == [1, 0, 1]
    assert [cycle.response_complete for cycle in cycles] == [True, False, True]
    assert [wire.is_closed for wire in wires] == [False, False, True]
    await asyncio.sleep(0)
    assert [len(wire.packets) for wire in wires] == [1, 0, 1]


@in_loop
async def test_a_defect_before_the_handlers_is_answered_and_leaves_the_gate(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("a defect")

    loop, gate = asyncio.get_running_loop(), Gate(9, 99, 99, Telemetry())
    config = uvicorn.Config(broken, http=BoundedHttpProtocol, ws="none", lifespan="off", log_config=None)
    config.load()
    protocol = BoundedHttpProtocol(config, ServerState(), state_with(gate), loop)
    wire = Wire()
    protocol.connection_made(cast(asyncio.Transport, wire))
    protocol.data_received(b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}")
    assert gate.num_requests == 1
    await asyncio.gather(*protocol.tasks)
    assert b"".join(wire.packets).startswith(b"HTTP/1.1 500 ")
    assert wire.is_closed
    assert gate.num_requests == 0
    assert "a defect" in caplog.text
    protocol.connection_lost(None)


HEAD = b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\n"


@pytest.mark.parametrize(
    "received",
    [
        [HEAD + b"1", b"23", b"4", HEAD + b"5678"],
        [HEAD + b"1234" + HEAD + b"56", b"78"],
        [HEAD + b"1234" + HEAD, b"5678"],
        [HEAD + b"1234" + HEAD + b"5678"],
    ],
)
@pytest.mark.parametrize(("root_path", "has_gate"), [("", True), ("", False), ("/ads", True)])
@in_loop
async def test_a_body_reaches_whoever_answers(root_path: str, has_gate: bool, received: list[bytes]) -> None:
    bodies: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        while message["more_body"]:
            bodies.append(message["body"])
            message = await receive()
        bodies.append(message["body"])
        await answer(send, 200, [(b"content-length", b"2")], b"{}")

    loop = asyncio.get_running_loop()
    config = uvicorn.Config(app, http=BoundedHttpProtocol, ws="none", lifespan="off", log_config=None)
    config.root_path = root_path
    config.load()
    state = state_with(Gate(9, 99, 99, Telemetry())) if has_gate else {}
    protocol = BoundedHttpProtocol(config, ServerState(), state, loop)
    protocol.connection_made(cast(asyncio.Transport, Wire()))
    for part in received:
        protocol.data_received(part)
        await asyncio.sleep(0.01)
    assert b"".join(bodies) == b"12345678"
    assert not protocol.tasks
    protocol.connection_lost(None)
