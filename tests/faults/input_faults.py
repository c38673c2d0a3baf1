"""C: input that means harm. The corpus is that of ``tests/hostile``, which also looks at memory and at training's reader."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TypeVar

from tests.faults.matrix import Arena, fault
from tests.hostile.corpus import BODIES, GOOD, MARKER, MAX_BODY, PLAIN, WRAPPED, Case
from tests.hostile.probing import METHODS, check_alive, send_raw
from tests.hostile.raw_requests import ALL
from tests.hostile.test_bodies import FIELDS, FLOODS, bodies_with
from tests.server import Server

T = TypeVar("T")


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
    "numbers, integers, tokens and lists that are none or at the edge, in every place",
    "422, or a finite answer; no echo",
)
def values(arena: Arena) -> None:
    cases = [(field, case) for field, found in FIELDS.items() for case in found]
    with arena.serve(catalog=arena.directory / "catalog.json") as server, arena.load(server, 50):
        for field, case in some(arena, cases):
            for place, path, body in bodies_with(field, case.text):
                send_case(arena, server, path, Case(case.name, body, case.status), f"{field} as {place}: {case.name}")


@fault(
    "C4",
    "no JSON, no UTF-8, 250,000 levels, 10 MB, doubled or odd keys",
    "413 or 422; no echo; others are answered as ever",
)
def bodies(arena: Arena) -> None:
    with arena.serve(catalog=arena.directory / "catalog.json") as server, arena.load(server, 50):
        for case in some(arena, BODIES):
            for path in GOOD:
                send_case(arena, server, path, case, case.name)


@fault("C6", "millions of faults in one body", "422 with at most 16 of them, in seconds")
def floods(arena: Arena) -> None:
    with arena.serve(catalog=arena.directory / "catalog.json") as server:
        for name, (path, body) in some(arena, list(FLOODS.items())):
            send_case(arena, server, path, Case(name, body, headers=PLAIN), name)


@fault("C10", "packed bodies, forms, other media types and charsets", "415, unread")
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
