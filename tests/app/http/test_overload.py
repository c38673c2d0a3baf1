"""Refusing early: a real server with more work than it will take on, or with clients that announce and send nothing."""

import json
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.clients import open_with
from tests.hostile.probing import resident_mib
from tests.server import Server, serving

ROW = {"user_id": 7, "clicked_ads": ["ad1"] * 50, "ad_id": "ad3", "price": 1.5}
GOOD = json.dumps({"instances": [ROW]}).encode()
TYPED = b"Host: x\r\nContent-Type: application/json\r\n"


def head(num_bytes: int, more: bytes = b"") -> bytes:
    return b"POST /predict HTTP/1.1\r\n" + TYPED + more + b"Content-Length: %d\r\n\r\n" % num_bytes


def ask(server: Server, body: bytes = GOOD) -> httpx.Response:
    return server.client.post("/predict", content=body, headers={"content-type": "application/json"})


def answer_on(connection: socket.socket) -> bytes:
    """Return the next answer on a connection, head and body."""
    answer = b""
    while not answer.endswith(b"}"):
        part = connection.recv(65_536)
        assert part, answer
        answer += part
    return answer


@pytest.fixture(scope="module")
def server(artifacts: Path) -> Iterator[Server]:
    with serving(artifacts, max_waiting=4, max_waiting_bytes=200_000) as running:
        yield running


def test_more_than_the_service_takes_on_is_refused_at_once_and_the_rest_is_answered(server: Server) -> None:
    wide = json.dumps({"instances": [ROW] * 300}).encode()
    with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        connections = [stack.enter_context(open_with(server, b"")) for _ in range(40)]
        for connection in connections:
            connection.sendall(head(len(wide)) + wide[:-1])
        server.process.send_signal(signal.SIGSTOP)  # so that all are complete before the first is answered
        for connection in connections:
            connection.sendall(wide[-1:])
        server.process.send_signal(signal.SIGCONT)
        probes = [pool.submit(server.client.get, path) for path in ("/health/live", "/health/ready", "/metrics") * 5]
        answers = [answer_on(connection) for connection in connections]
        assert {future.result().status_code for future in probes} == {200}
    statuses = [int(answer[9:12]) for answer in answers]
    assert set(statuses) == {200, 503}
    refused = next(answer for answer in answers if answer[9:12] == b"503")
    assert b"retry-after: 1" in refused
    assert b'"code":"overloaded"' in refused
    assert server.metric("ctr_shed_total", reason="overloaded") >= statuses.count(503)
    assert all(ask(server).status_code == 200 for _ in range(5))  # nothing was left behind


def test_clients_that_announce_a_body_and_send_none_or_half_of_it_take_nothing_from_others(server: Server) -> None:
    shed = server.metric("ctr_shed_total", reason="overloaded")
    with ExitStack() as stack:
        for sent in (head(4 << 20), head(4 << 20) + b" " * 1_000, head(1_000) + GOOD[:10]) * 10:
            stack.enter_context(open_with(server, sent))
        assert all(ask(server).status_code == 200 for _ in range(20))
        assert ask(server, b" " * 100_000 + GOOD).status_code == 200
    assert server.metric("ctr_shed_total", reason="overloaded") == shed


@pytest.mark.parametrize("is_chunked", [False, True])
def test_uploads_that_hold_too_much_give_way_to_later_ones_and_memory_stays_bounded(
    server: Server, is_chunked: bool
) -> None:
    def part(body: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(body), body) if is_chunked else body

    begin = head(180_000 + len(GOOD))
    if is_chunked:
        begin = b"POST /predict HTTP/1.1\r\n" + TYPED + b"Transfer-Encoding: chunked\r\n\r\n"
    end = part(b" " * 90_000 + GOOD) + (b"0\r\n\r\n" if is_chunked else b"")
    before = resident_mib(server)
    with ExitStack() as stack:
        held = []
        for _ in range(20):
            held.append(stack.enter_context(open_with(server, begin + part(b" " * 90_000))))
            time.sleep(0.02)
        assert ask(server).status_code == 200
        held[-1].sendall(end)
        assert answer_on(held[-1]).startswith(b"HTTP/1.1 200")
        held[0].sendall(end)
        assert answer_on(held[0]).startswith(b"HTTP/1.1 503")
        # What was given up is read to its end, and the connection serves the next request.
        held[0].sendall(head(len(GOOD)) + GOOD)
        assert answer_on(held[0]).startswith(b"HTTP/1.1 200")
        assert resident_mib(server) - before < 8
    server.wait_for(lambda: ask(server, b" " * 150_000 + GOOD).status_code == 200)


def test_a_client_that_leaves_gives_its_place_back(server: Server) -> None:
    whole = json.dumps({"instances": [ROW] * 200}).encode()
    address = (server.client.base_url.host, server.client.base_url.port or 0)
    for sent in (whole, whole[:100]) * 10:
        with socket.create_connection(address, timeout=5) as connection:
            connection.sendall(head(len(whole)) + sent)
    server.wait_for(lambda: all(ask(server).status_code == 200 for _ in range(10)))


def ask_within(server: Server, milliseconds: str) -> tuple[int, str | None]:
    answer = server.client.post("/predict", json={"instances": [ROW]}, headers={"x-request-timeout-ms": milliseconds})
    return answer.status_code, answer.json().get("code")


def test_a_request_whose_own_deadline_has_passed_is_not_computed(server: Server) -> None:
    assert ask_within(server, "10000") == (200, None)
    rows, late_before = server.metric("ctr_rows_total"), server.metric("ctr_shed_total", reason="deadline")
    for late in ("0", "-1", "0.000001"):
        assert ask_within(server, late) == (504, "deadline_exceeded")
    for odd in ("soon", "nan", ""):
        assert ask_within(server, odd) == (422, "invalid_input")
    assert server.metric("ctr_rows_total") == rows
    assert server.metric("ctr_shed_total", reason="deadline") == late_before + 3


def test_a_body_that_comes_after_its_requests_deadline_is_not_computed(server: Server) -> None:
    for milliseconds, status in ((b"50", b"504"), (b"60000", b"200")):
        begin = head(len(GOOD), b"X-Request-Timeout-Ms: " + milliseconds + b"\r\n")
        with open_with(server, begin + GOOD[:1]) as connection:
            time.sleep(0.2)
            connection.sendall(GOOD[1:])
            assert answer_on(connection).startswith(b"HTTP/1.1 " + status)
