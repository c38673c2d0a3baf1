"""C: input that means harm. The corpus is that of ``tests/hostile``, which also looks at memory and at training's reader."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TypeVar

import httpx
import numpy as np
import orjson

from tests.faults.matrix import JSON, NAMES, Arena, fault
from tests.hostile.corpus import BODIES, GOOD, MARKER, MAX_BODY, PLAIN, WRAPPED, Case
from tests.hostile.probing import METHODS, check_alive, send_raw
from tests.hostile.raw_requests import ALL
from tests.hostile.test_bodies import FIELDS, FLOODS, bodies_with
from tests.making import make_log
from tests.server import Server

T = TypeVar("T")


def names(value: bytes) -> bytes:
    """Return as many fields that no model has as a body may hold."""
    return b",".join(b'"u%d":%s' % (i, value) for i in range(290_000))


def some(arena: Arena, cases: Sequence[T]) -> Sequence[T]:
    """Return all cases, or one in seven where all of them are other tests."""
    return cases if arena.scale > 1 else cases[::7]


def send_case(arena: Arena, server: Server, path: str, case: Case, name: str) -> None:
    status = case.status
    if len(case.text) > MAX_BODY and path != "/catalog" and status != 415:
        status = 413
    started = time.monotonic()
    answer = server.client.request(METHODS[path], path, content=case.text, headers=dict(case.headers))
    assert MARKER not in answer.text, name
    assert answer.status_code == status, (name, answer.status_code)
    arena.tally.note(answer.status_code, status, time.monotonic() - started)
    check_alive(server, name)


@fault(
    "C1",
    "invalid and extreme numbers, integers, tokens and lists, in every place",
    "422, or a finite answer; nothing sent is repeated",
)
def values(arena: Arena) -> None:
    cases = [(field, case) for field, found in FIELDS.items() for case in found]
    with arena.serve(catalog=arena.directory / "catalog.json") as server, arena.load(server, 50):
        for field, case in some(arena, cases):
            for place, path, body in bodies_with(field, case.text):
                send_case(arena, server, path, Case(case.name, body, case.status), f"{field} as {place}: {case.name}")


@fault(
    "C4",
    "bodies that are not JSON or not UTF-8, 250,000 levels deep, of 10 MB, with doubled or odd keys",
    "413 or 422; nothing sent is repeated; others are answered as before",
)
def bodies(arena: Arena) -> None:
    with arena.serve(catalog=arena.directory / "catalog.json") as server, arena.load(server, 50):
        for case in some(arena, BODIES):
            for path in GOOD:
                send_case(arena, server, path, case, case.name)


@fault("C6", "millions of faults in one body", "422 with at most 16 of them; of a large body with the first")
def floods(arena: Arena) -> None:
    with arena.serve(catalog=arena.directory / "catalog.json") as server:
        for name, (path, body) in some(arena, list(FLOODS.items())):
            send_case(arena, server, path, Case(name, body, headers=PLAIN), name)


@fault("C10", "compressed bodies, forms, other media types and charsets", "415, unread")
def wrapped(arena: Arena) -> None:
    with arena.serve(catalog=arena.directory / "catalog.json") as server:
        for case in some(arena, WRAPPED):
            for path in GOOD:
                send_case(arena, server, path, case, case.name)


@fault(
    "C11",
    "smuggled, doubled, endless, malformed heads, targets and chunks",
    "400, 404, 413 or closed; nothing is answered twice",
)
def raw_requests(arena: Arena) -> None:
    with arena.serve() as server:
        for raw in some(arena, ALL):
            started = time.monotonic()
            answer = send_raw(server, [raw.data], wait_s=1.0)
            assert tuple(answer.statuses) == raw.statuses, (raw.name, answer.statuses)
            assert MARKER.encode() not in answer.data, raw.name
            arena.tally.note(200, 200, time.monotonic() - started)
            check_alive(server, raw.name)


@fault(
    "C16",
    "bodies of 10 MB, of four million levels, of a million faults or empty rows, of 300,000 unknown names and of 2,048 rows, "
    "one after the other, while others ask `/health/live`",
    "answered within 100 ms on a machine without other work",
)
def live(arena: Arena) -> None:
    frame = make_log(2_048).frame
    columns = {n: [int(v) for v in frame[n]] if n == "user_id" else frame[n].to_list() for n in NAMES}
    rows = orjson.dumps({"instances": [{n: columns[n][i] for n in NAMES} for i in range(frame.height)]})
    with arena.serve() as server:
        for name, status, path, body in (
            ("10 MB", 413, "/predict", b" " * 10_000_000),
            ("levels", 422, "/predict", b"[" * 4_000_000),
            ("rows", 200, "/predict", rows),
            ("names in a row", 200, "/predict", b'{"instances": [{%s}]}' % names(b"1")),
            ("names of columns", 200, "/predict", b'{"inputs": {"price": [1], %s}}' % names(b"[1]")),
            ("names in a context", 200, "/rank", b'{"context": {%s}, "candidates": [{"price": 1}]}' % names(b"1")),
            *((name, 422, path, body) for name, (path, body) in FLOODS.items() if path != "/catalog"),
        ):
            over = threading.Event()

            def flood(status: int = status, path: str = path, body: bytes = body, over: threading.Event = over) -> None:
                while not over.is_set():
                    answer = httpx.post(f"{server.client.base_url}{path}", content=body, headers=JSON, timeout=30)
                    arena.tally.note(answer.status_code, status, answer.elapsed.total_seconds())

            thread = threading.Thread(target=flood)
            thread.start()
            times_s = []
            try:
                until = time.monotonic() + min(3, arena.scale)
                while time.monotonic() < until:
                    answer = server.client.get("/health/live")
                    arena.tally.note(answer.status_code, 200, answer.elapsed.total_seconds())
                    times_s.append(answer.elapsed.total_seconds())
                    time.sleep(0.003)
            finally:
                over.set()
                thread.join(30)
            p50, p99 = np.quantile(times_s, [0.5, 0.99]) * 1000
            arena.tally.notes.append(
                f"{name}: p50 {p50:.0f} ms, p99 {p99:.0f} ms, at most {max(times_s) * 1000:.0f} ms"
            )
            assert p50 < 200, name  # of the worst of them, a machine with other work on it says little
