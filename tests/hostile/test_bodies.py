"""The corpus of bodies through the front door: never a 5xx, never an echo, bounded memory, and the service lives on."""

import json
import time
from collections.abc import Iterator

import pytest

from tests.hostile.corpus import (
    BODIES,
    FIELDS,
    GOOD,
    MARKER,
    MAX_BODY,
    MAX_ROWS,
    OK,
    PLAIN,
    TOO_LARGE,
    UNPROCESSABLE,
    WRAPPED,
    Case,
)
from tests.hostile.probing import (
    SCORED_S,
    check_alive,
    check_good_requests,
    check_refusal,
    peak_mib,
    resident_mib,
    send,
)
from tests.server import Server

CANDIDATE_FIELDS = {"ad_id", "price"}
VALUES = [(field, case) for field, cases in FIELDS.items() for case in cases]
PATHS = tuple(GOOD)
MAX_GROWTH_MIB = 512
MAX_PEAK_GROWTH_MIB = 640


@pytest.fixture(scope="module", autouse=True)
def _memory_stays_bounded(server: Server) -> Iterator[None]:
    check_good_requests(server)
    before = resident_mib(server), peak_mib(server)
    yield
    check_good_requests(server)
    assert resident_mib(server) - before[0] < MAX_GROWTH_MIB
    assert peak_mib(server) - before[1] < MAX_PEAK_GROWTH_MIB


def bodies_with(field: str, text: bytes) -> Iterator[tuple[str, str, bytes]]:
    """Every place where a field's value can stand: its name, the path, the body."""
    pair = json.dumps(field).encode() + b": " + text
    yield "row", "/predict", b'{"instances": [{"site": "site-1.example", ' + pair + b"}]}"
    yield "column", "/predict", b'{"inputs": {' + json.dumps(field).encode() + b": [" + text + b"]}}"
    if field in CANDIDATE_FIELDS:
        yield "candidate", "/rank", b'{"context": {}, "candidates": [{}, {' + pair + b"}]}"
        yield "catalog", "/catalog", b'{"items": {"first": {' + pair + b"}}}"
    else:
        yield "context", "/rank", b'{"context": {' + pair + b'}, "candidates": [{}]}'


def check(server: Server, path: str, text: bytes, status: int, name: str, headers: dict[str, str]) -> None:
    if len(text) > MAX_BODY and path != "/catalog" and status != 415:
        status = TOO_LARGE
    started = time.perf_counter()
    response = send(server, path, text, headers)
    assert time.perf_counter() - started < SCORED_S, name
    check_refusal(response, status, name)
    check_alive(server, name)


@pytest.mark.parametrize(("field", "case"), VALUES, ids=lambda v: v.name if isinstance(v, Case) else v)
def test_a_hostile_value_is_refused_or_scored_wherever_it_stands(server: Server, field: str, case: Case) -> None:
    for place, path, body in bodies_with(field, case.text):
        check(server, path, body, case.status, f"{field} as {place}: {case.name}", PLAIN)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("case", BODIES, ids=lambda case: case.name)
def test_a_hostile_body_is_refused_on_every_path(server: Server, path: str, case: Case) -> None:
    check(server, path, case.text, case.status, case.name, dict(case.headers))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("case", WRAPPED, ids=lambda case: case.name)
def test_a_body_that_is_packed_or_is_no_json_is_refused_unread(server: Server, path: str, case: Case) -> None:
    check(server, path, case.text, case.status, case.name, dict(case.headers))


FLOODS = {
    "a million wrong tokens": (
        "/predict",
        b'{"instances": [' + b",".join([b'{"clicked_ads": [' + b"{}," * 499 + b"{}]}"] * 2_000) + b"]}",
    ),
    "two million wrong rows": ("/predict", b'{"instances": [' + b"1," * 2_000_000 + b"1]}"),
    "two million wrong numbers": ("/predict", b'{"inputs": {"price": [' + b"[]," * 1_000_000 + b"1]}}"),
    "150,000 unknown keys": ("/predict", json.dumps({f"{MARKER}{i}": 0 for i in range(150_000)}).encode()),
    "more than a million empty rows": ("/predict", b'{"instances": [' + b"{}," * 1_300_000 + b"{}]}"),
    "more than a million empty lists": ("/predict", b'{"inputs": {"clicked_ads": [' + b"[]," * 1_300_000 + b"[]]}}"),
    "more than a million empty candidates": ("/rank", b'{"candidates": [' + b"{}," * 1_300_000 + b"{}]}"),
    "two million wrong ids": ("/rank", b'{"candidate_ids": [' + b"1," * 2_000_000 + b"1]}"),
    "wrong candidates": ("/rank", b'{"candidates": [' + b'{"price": "x"},' * 2_047 + b"{}]}"),
    "half a million wrong items": ("/catalog", json.dumps({"items": {str(i): 1 for i in range(500_000)}}).encode()),
    "two million faults in a catalog": (
        "/catalog",
        json.dumps({"items": {str(i): {"price": "x", "ad_id": []} for i in range(100_000)}}).encode(),
    ),
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_of_faults_costs_no_more_than_a_good_body(server: Server, name: str) -> None:
    path, body = FLOODS[name]
    check(server, path, body, UNPROCESSABLE, name, PLAIN)


@pytest.mark.parametrize("as_columns", [False, True], ids=["rows", "columns"])
def test_many_unknown_fields_are_counted_in_a_short_answer(server: Server, as_columns: bool) -> None:
    fields: dict[str, object] = {f"unknown{i}": [1] for i in range(100_000)}
    request = {"inputs": {**fields, "ad_id": ["ad1"]}} if as_columns else {"instances": [fields]}
    check(server, "/predict", json.dumps(request).encode(), OK, "unknown fields", PLAIN)


def test_names_that_could_harm_whoever_shows_them_are_not_shown(server: Server) -> None:
    names = ["<b>" + MARKER, MARKER + "\r\n", MARKER + "\u202e", MARKER + "\x00", MARKER * 6, "__proto__"]
    request = {"instances": [dict.fromkeys(names, MARKER)]}
    response = send(server, "/predict", json.dumps(request).encode(), PLAIN)
    check_refusal(response, OK, "names")
    assert response.json()["unknown_fields"] == {"(not a plain name)": 5, "__proto__": 1}


@pytest.mark.parametrize(("num_rows", "status"), [(0, UNPROCESSABLE), (1, OK), (MAX_ROWS, OK), (MAX_ROWS + 1, 422)])
def test_the_number_of_rows_is_bounded(server: Server, num_rows: int, status: int) -> None:
    bodies = {
        "/predict": [{"instances": [{}] * num_rows}, {"inputs": {"ad_id": [None] * num_rows}}],
        "/rank": [{"candidates": [{}] * num_rows}, {"candidate_ids": ["first"] * num_rows}],
    }
    for path, requests in bodies.items():
        for request in requests:
            response = send(server, path, json.dumps(request).encode(), PLAIN)
            assert response.status_code == status, f"{path}: {response.text[:300]}"
