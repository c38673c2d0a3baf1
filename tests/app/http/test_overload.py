"""Refusing early: the gate alone, and a real server with more work than it will take on."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx

from app.http.admission import Gate
from app.observability.metrics import Telemetry
from tests.clients import open_with
from tests.server import Server, serving

ROW = {"user_id": 7, "clicked_ads": ["ad1"] * 50, "ad_id": "ad3", "price": 1.5}


def test_the_gate_bounds_requests_and_bytes_but_lets_one_in_whatever_its_size() -> None:
    telemetry = Telemetry()
    gate = Gate(3, 100, 1_000, telemetry)
    assert gate.enter(1_000)
    assert not gate.enter(1)
    gate.leave(1_000)
    assert [gate.enter(40) for _ in range(3)] == [True, True, False]
    assert gate.enter(20)
    assert not gate.enter(0)
    gate.leave(20)
    assert gate.enter(1_001)  # it will be refused unread: not for want of room
    gate.leave(1_001)
    for size in (40, 40):
        gate.leave(size)
    assert (gate.num_requests, gate.num_bytes) == (0, 0)
    assert telemetry.registry.get_sample_value("ctr_shed_total", {"reason": "overloaded"}) == 3


def test_a_body_that_grows_is_bounded_by_the_same_bytes_unless_it_is_alone() -> None:
    telemetry = Telemetry()
    gate = Gate(3, 100, 1_000, telemetry)
    assert gate.enter(0)
    assert gate.grow(80)
    assert gate.enter(0)
    assert not gate.grow(30)
    assert not gate.enter(30)
    gate.leave(0, 80)
    assert gate.grow(150)  # alone
    gate.leave(0, 150)
    assert (gate.num_requests, gate.num_bytes) == (0, 0)
    assert telemetry.registry.get_sample_value("ctr_shed_total", {"reason": "overloaded"}) == 2


def let_in(server: Server) -> None:
    """Wait until the server's loop has counted what was sent to it: a request before that would take its place."""
    for _ in range(5):
        server.client.get("/health/live").raise_for_status()
        time.sleep(0.02)


def test_more_than_the_service_takes_on_is_refused_at_once_and_the_rest_is_answered(artifacts: Path) -> None:
    body = json.dumps({"instances": [ROW]}).encode()
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(
        body
    )
    with serving(artifacts, max_waiting=2) as server, ExitStack() as stack:

        def ask() -> httpx.Response:
            return server.client.post("/predict", content=body, headers={"content-type": "application/json"})

        address = (server.client.base_url.host, server.client.base_url.port or 0)
        slow = [stack.enter_context(socket.create_connection(address)) for _ in range(2)]
        for connection in slow:
            connection.sendall(head + body[:5])
        let_in(server)
        assert ask().status_code == 503
        refused = [ask() for _ in range(10)]
        assert {answer.status_code for answer in refused} == {503}
        assert {answer.json()["code"] for answer in refused} == {"overloaded"}
        assert {answer.headers["retry-after"] for answer in refused} == {"1"}
        assert server.metric("ctr_shed_total", reason="overloaded") >= 10
        for connection in slow:
            connection.sendall(body[5:])
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
        # Nothing is left behind: the next one finds the gate open.
        assert all(ask().status_code == 200 for _ in range(5))


def test_a_client_that_leaves_gives_its_place_back(artifacts: Path) -> None:
    whole = json.dumps({"instances": [ROW] * 200}).encode()
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(
        whole
    )
    with serving(artifacts, max_waiting=1) as server:
        address = (server.client.base_url.host, server.client.base_url.port or 0)
        for sent in (whole, whole[:100]) * 5:
            with socket.create_connection(address, timeout=5) as connection:
                connection.sendall(head + sent)
        server.wait_for(lambda: server.client.post("/predict", json={"instances": [ROW]}).status_code == 200)


def test_probes_pass_by_the_gate(artifacts: Path) -> None:
    with serving(artifacts, max_waiting=1) as server, ThreadPoolExecutor(8) as pool:
        load = [pool.submit(server.client.post, "/predict", json={"instances": [ROW] * 500}) for _ in range(30)]
        assert all(
            server.client.get(path).status_code == 200 for path in ("/health/live", "/health/ready", "/metrics") * 5
        )
        assert {future.result().status_code for future in load} <= {200, 503}


def ask_within(server: Server, milliseconds: str) -> tuple[int, str | None]:
    answer = server.client.post("/predict", json={"instances": [ROW]}, headers={"x-request-timeout-ms": milliseconds})
    return answer.status_code, answer.json().get("code")


def test_a_request_whose_own_deadline_has_passed_is_not_computed(artifacts: Path) -> None:
    with serving(artifacts) as server:
        assert ask_within(server, "10000") == (200, None)
        rows = server.metric("ctr_rows_total")
        for late in ("0", "-1", "0.000001"):
            assert ask_within(server, late) == (504, "deadline_exceeded")
        for odd in ("soon", "nan", ""):
            assert ask_within(server, odd) == (422, "invalid_input")
        assert server.metric("ctr_rows_total") == rows
        assert server.metric("ctr_shed_total", reason="deadline") == 3


def test_a_body_that_comes_after_its_requests_deadline_is_not_computed(artifacts: Path) -> None:
    body = json.dumps({"instances": [ROW]}).encode()
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
    with serving(artifacts) as server:
        for milliseconds, status in ((b"50", b"504"), (b"60000", b"200")):
            with open_with(
                server, head + b"X-Request-Timeout-Ms: " + milliseconds + b"\r\n\r\n" + body[:1]
            ) as connection:
                time.sleep(0.2)
                connection.sendall(body[1:])
                assert connection.recv(4096).startswith(b"HTTP/1.1 " + status)
        assert server.metric("ctr_rows_total") == 1


def test_chunked_bodies_in_flight_count_like_those_of_a_known_length(artifacts: Path) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    piece = b"%x\r\n%s\r\n" % (40_000, b" " * 40_000)
    good = json.dumps({"instances": [ROW]}).encode()
    with serving(artifacts, max_waiting_bytes=100_000) as server, ExitStack() as stack:

        def shed() -> float:
            return server.metric("ctr_shed_total", reason="overloaded")

        def ask(body: bytes) -> httpx.Response:
            return server.client.post("/predict", content=body, headers={"content-type": "application/json"})

        held = [stack.enter_context(open_with(server, head + piece)) for _ in range(2)]  # 80 kB, and more to come
        let_in(server)
        assert ask(b" " * 30_000 + good).status_code == 503
        assert ask(good).status_code == 200  # there is room for a small one
        before = shed()
        third = stack.enter_context(open_with(server, head + piece))
        refused = third.recv(4_096)
        assert refused.startswith(b"HTTP/1.1 503")
        assert b"retry-after: 1" in refused
        assert shed() == before + 1
        ended = b"%x\r\n%s\r\n0\r\n\r\n" % (len(good), good)
        held[0].sendall(ended)
        assert held[0].recv(4_096).startswith(b"HTTP/1.1 200")
        held[1].close()
        server.wait_for(lambda: ask(b" " * 90_000 + good).status_code == 200)
        # What was refused half-way reads on to its end, and the connection serves the next one.
        third.sendall(ended + head + ended)
        assert third.recv(4_096).startswith(b"HTTP/1.1 200")
        again = [stack.enter_context(open_with(server, head + piece)) for _ in range(2)]  # nothing has been left behind
        for connection in again:
            connection.sendall(ended)
            assert connection.recv(4_096).startswith(b"HTTP/1.1 200")
