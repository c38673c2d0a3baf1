"""C12, D1–D4: too much load, and clients that dawdle or leave."""

from __future__ import annotations

import http.client
import signal
import socket
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import orjson

from tests.clients import HALVES, IMPATIENT, IMPATIENT_S, open_with
from tests.faults.load import Answers, Load
from tests.faults.matrix import JSON, Arena, fault
from tests.faults.watching import until
from tests.making import make_log, request_columns
from tests.server import Server

ROWS = 500


def heavy(server: Server) -> tuple[bytes, Answers]:
    """Return a body that takes milliseconds, and its right answer."""
    columns = request_columns(make_log().head(ROWS))
    body = orjson.dumps(
        {"instances": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]}
    )
    answers = Answers()
    answers.learn(0, server.client.post("/predict", content=body, headers=JSON).content)
    return body, answers


@fault(
    "C12",
    "200 idle connections, 100 half-sent requests, and 50 that send a byte at a time, under load",
    "all are closed in time; the others are answered as before",
)
def slow_clients(arena: Arena) -> None:
    with arena.serve(command=IMPATIENT) as server, ExitStack() as stack, arena.load(server) as load:
        time.sleep(0.5)
        begun = time.monotonic()
        connections = [stack.enter_context(open_with(server, HALVES[n % len(HALVES)])) for n in range(300)]
        drips = [(stack.enter_context(open_with(server, b"")), DRIPS[n % len(DRIPS)]) for n in range(50)]
        fed = threading.Thread(target=feed, args=(drips, begun + IMPATIENT_S + 5))
        fed.start()
        opened = time.monotonic()  # to accept so many at once takes a while
        for connection in (*connections, *(connection for connection, _ in drips)):
            with suppress(ConnectionResetError):  # it was closed with a byte of a drip unread
                while connection.recv(4096):
                    pass
        took = time.monotonic() - begun
        fed.join()
        assert took < IMPATIENT_S + 5
        before, meanwhile = load.quantile_ms(0.9, 0, begun), load.quantile_ms(0.9, opened)
        arena.tally.notes.append(
            f"closed within {took:.1f} s, p90 of the others {before:.1f} ms before and {meanwhile:.1f} ms meanwhile, "
            f"p99 {load.quantile_ms(0.99, opened):.1f} ms"
        )
        assert meanwhile < 2 * before + 5


DRIPS = [
    b"POST /predict HTTP/1.1\r\nHost: x\r\nX-Slow: " + b"a" * 1000,
    HALVES[3] + b" " * 1000,
    HALVES[4] + b" " * 1000,
]
"""Requests that never stop coming, sent byte by byte."""


def feed(drips: list[tuple[socket.socket, bytes]], until_s: float) -> None:
    """Send a byte of each ten times a second, for as long as somebody takes them."""
    is_open = [True] * len(drips)
    for at in range(1000):
        for n, (connection, data) in enumerate(drips):
            if is_open[n]:
                try:
                    connection.send(data[at : at + 1])
                except OSError:
                    is_open[n] = False
        if not any(is_open) or time.monotonic() > until_s:
            return
        time.sleep(0.1)


@fault(
    "D1",
    "three times the load that the service can take",
    "goodput stays near the peak; the rest is refused quickly with 503",
)
def overload(arena: Arena) -> None:
    seconds = 2.0 * min(arena.scale, 5)
    with arena.serve(max_waiting=8) as server:
        body, answers = heavy(server)
        url = str(server.client.base_url)
        with Load(url, [body], answers, 1e6, num_threads=4) as load:
            time.sleep(seconds)
        peak = load.statuses[200] / seconds
        assert load.tally.wrong == 0
        with Load(url, [body], answers, 3 * peak, num_threads=24, allowed=(503,)) as load:
            time.sleep(seconds)
        arena.tally += load.tally
        good, refused = load.statuses[200] / seconds, load.statuses[503]
        offered = sum(load.statuses.values()) / seconds
        assert refused > 0
        waits = {
            wanted: np.array([t for t, status in load.waits_s if status == wanted]) * 1000 for wanted in (200, 503)
        }
        arena.tally.notes.append(
            f"peak {peak:.0f}/s, offered {offered:.0f}/s, good {good:.0f}/s ({good / peak:.2f}), refused {refused}, "
            f"p99 of good {np.quantile(waits[200], 0.99):.0f} ms, of refusals {np.quantile(waits[503], 0.99):.0f} ms"
        )
        assert good > 0.5 * peak  # what the figure is on a quiet machine stands in docs/reliability.md


@fault("D2", "the load falls back to normal after an overload", "answers are as fast as before within two seconds")
def recovery(arena: Arena) -> None:
    with arena.serve(max_waiting=8) as server:
        body, answers = heavy(server)

        def median_ms() -> float:
            with arena.load(server, 100) as load:
                time.sleep(0.5)
            return load.quantile_ms(0.5)

        before = median_ms()
        with Load(str(server.client.base_url), [body], answers, 1e6, num_threads=32, allowed=(503,)):
            time.sleep(1.0)
        time.sleep(1.0)
        after = median_ms()
        arena.tally.notes.append(f"median {before:.1f} ms before and {after:.1f} ms afterwards")
        assert after < 2 * before + 5  # a queue that goes on feeding itself takes hundreds


@fault("D3", "requests whose own deadline passes while they wait", "504, and nothing is computed for them")
def deadlines(arena: Arena) -> None:
    with arena.serve() as server:
        body, answers = heavy(server)
        before = server.metric("ctr_rows_total")
        head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Request-Timeout-Ms: 1\r\n"
        request = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
        statuses: list[int] = []
        with ExitStack() as stack:
            connections = [stack.enter_context(open_with(server, LIVE)) for _ in range(32)]
            for connection in connections:  # the service accepts one connection between two requests
                read_answer(connection)
            # All come at once, whatever the machine does: the last of them has to wait for thirty-one others.
            server.process.send_signal(signal.SIGSTOP)
            for connection in connections:
                connection.sendall(request)
            started = time.monotonic()
            server.process.send_signal(signal.SIGCONT)
            for connection in connections:
                answer, content = read_answer(connection)
                is_right = answer.status != 200 or answers.is_right(0, content, to_the_bit=False)
                statuses.append(answer.status)
                expected = answer.status if answer.status in (200, 504) else 200
                arena.tally.note(answer.status, expected, time.monotonic() - started, is_right)
        assert server.metric("ctr_rows_total") == before + ROWS * statuses.count(200)
        assert server.metric("ctr_shed_total", reason="deadline") == statuses.count(504)
        assert statuses.count(504) >= 8
        arena.tally.notes.append(f"{statuses.count(504)} of 32 late")


LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"


def read_answer(connection: socket.socket) -> tuple[http.client.HTTPResponse, bytes]:
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return answer, answer.read()


@fault(
    "D4",
    "half of the clients disconnect before their answer",
    "they leave no task and no descriptor; the others are answered",
)
def leaving(arena: Arena) -> None:
    with arena.serve(max_waiting=4) as server:
        fds = Path(f"/proc/{server.process.pid}/fd")
        arena.ask(server)
        before = len(list(fds.iterdir()))
        body, _ = heavy(server)
        head = (
            b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            % len(body)
        )
        for n in range(40 * arena.scale):
            with open_with(server, head + body[: len(body) // (1 + n % 3)]):
                pass
        until(lambda: len(list(fds.iterdir())) <= before + 1, "descriptors")
        for i in range(8):
            arena.ask(server, i)
