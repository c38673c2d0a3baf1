"""Hostile bytes on the socket: what comes back is what a proxy in front would expect too, or nothing."""

import re
import time
from collections.abc import Iterable, Iterator

import pytest

from tests.hostile.corpus import GOOD, MARKER
from tests.hostile.probing import check_alive, check_good_requests, peak_mib, resident_mib, send_raw
from tests.hostile.raw_requests import ALL, BODY, CHUNKED, LATER, LENGTH, TYPED, Raw, post
from tests.server import Server

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "PURGE", "SEARCH", "LINK")
ALLOWED = {
    "/predict": {"POST"},
    "/rank": {"POST"},
    "/explain": {"POST"},
    "/catalog": {"PUT"},
    "/health/live": {"GET"},
    "/health/ready": {"GET"},
    "/model": {"GET"},
    "/metrics": {"GET"},
    "/openapi.json": {"GET"},
    "/docs": {"GET"},
    "/v2": {"GET"},
    "/v2/health/live": {"GET"},
    "/": {"GET"},
}
NOT_THERE = (
    "/redoc", "/docs/oauth2-redirect", "/favicon.ico", "/predict/v1", "/v2/", "/v2/models", "/v2/repository/index", "/models",
    "/health", "/model/reload", "/admin", "/debug", "/api/predict", "/static", "/catalog/first", "/shutdown", "/metrics/x",
)  # fmt: skip


def paused(pieces: Iterable[bytes], pause_s: float = 0.01) -> Iterator[bytes]:
    """Yield the pieces, leaving the server time to read each by itself."""
    for piece in pieces:
        yield piece
        time.sleep(pause_s)


@pytest.fixture(scope="module", autouse=True)
def _memory_stays_bounded(server: Server) -> Iterator[None]:
    check_good_requests(server)
    before = resident_mib(server), peak_mib(server)
    yield
    check_good_requests(server)
    assert resident_mib(server) - before[0] < 64
    assert peak_mib(server) - before[1] < 64
    assert "Traceback" not in server.log.read_text()
    assert MARKER not in server.log.read_text()


@pytest.mark.parametrize("raw", ALL, ids=lambda raw: raw.name)
def test_bytes_on_the_socket_get_what_they_should_and_no_more(server: Server, raw: Raw) -> None:
    answer = send_raw(server, [raw.data], 0.2 if raw.is_open else 5)
    assert tuple(answer.statuses) == raw.statuses, answer.data[:2_000]
    assert answer.is_closed or raw.is_open
    assert MARKER.encode() not in answer.data
    assert b"location:" not in answer.data.lower()
    check_alive(server, raw.name)


@pytest.mark.parametrize("raw", ALL[::7], ids=lambda raw: raw.name)
def test_hostile_bytes_in_small_packets_get_the_same(server: Server, raw: Raw) -> None:
    pieces = [raw.data[i : i + 7] for i in range(0, min(len(raw.data), 700), 7)]
    answer = send_raw(server, paused([*pieces, raw.data[700:]], 0.002), 0.2 if raw.is_open else 5)
    # A header that is cut in its name cannot be renamed, so an upgrade with a body is refused then.
    assert tuple(answer.statuses) in (raw.statuses, *([(400,)] if "upgrade" in raw.name else []))
    check_alive(server, raw.name)


def test_the_body_of_an_upgrade_is_never_read_as_a_request_wherever_the_head_is_cut(server: Server) -> None:
    raw = next(raw for raw in ALL if raw.name == "upgrade of a chunked POST")
    begin = raw.data.index(b"\r\nUpgrade:") - 1
    for cut in range(begin, begin + 14):
        answer = send_raw(server, paused([raw.data[:cut], raw.data[cut:]]), 0.1)
        assert tuple(answer.statuses) in (raw.statuses, (400,)), raw.data[:cut]
    byte_by_byte = paused([raw.data[i : i + 1] for i in range(len(raw.data))], 0.001)
    assert tuple(send_raw(server, byte_by_byte, 0.2).statuses) == (400,)


def test_a_head_without_end_is_cut_off(server: Server) -> None:
    pieces = [b"GET /model HTTP/1.1\r\nHost: x\r\n", *[b"X-A: " + b"a" * 1_000] * 1_000]
    answer = send_raw(server, pieces)
    assert answer.is_closed
    assert answer.statuses in ([400], [])  # what is still under way resets the connection


def test_a_body_that_says_too_little_of_itself_is_waited_for_and_too_much_of_it_is_refused(server: Server) -> None:
    assert send_raw(server, [post(b"Content-Length: 1000\r\n")], 0.2).data == b""
    cut_off = send_raw(server, [post(b"Content-Length: 1000\r\n")], half_close=True)
    assert cut_off.is_closed
    assert cut_off.statuses in ([400], [])
    check_alive(server, "length that lies")


def test_chunks_of_one_byte_are_put_together_and_bounded(server: Server) -> None:
    head = b"POST /predict HTTP/1.1\r\nConnection: close\r\n" + TYPED + CHUNKED + b"\r\n"
    good = [head, b"".join(b"1\r\n%c\r\n" % byte for byte in BODY), b"0\r\n\r\n"]
    assert send_raw(server, good).statuses == [200]
    started = time.perf_counter()
    blanks = [head, *[b"1\r\n \r\n" * 10_000] * 100, b"0\r\n\r\n"]
    assert send_raw(server, blanks).statuses == [422]
    assert time.perf_counter() - started < 5
    check_alive(server, "a million chunks")
    megabyte = b"100000\r\n" + b" " * 2**20 + b"\r\n"
    assert send_raw(server, [head, *[megabyte] * 5]).statuses in ([413], [])
    check_alive(server, "5 MiB in chunks")


def test_what_is_pipelined_is_answered_in_order_and_as_much_as_was_asked(server: Server) -> None:
    answer = send_raw(server, [post(LENGTH) * 500 + LATER])
    assert answer.statuses == [200] * 501
    assert answer.data.endswith(b'{"status":"live"}')


def test_a_large_upload_does_not_hold_up_the_probes(server: Server) -> None:
    head = b"PUT /catalog HTTP/1.1\r\n" + TYPED + b"Content-Length: 67108864\r\n\r\n"
    for _ in range(5):
        send_raw(server, [head, *[b" " * 65_536] * 100], 0.01)
        check_alive(server, "upload")


@pytest.mark.parametrize("path", [*ALLOWED, *NOT_THERE])
def test_every_method_on_every_path_is_allowed_by_name_or_refused(server: Server, path: str) -> None:
    for method in METHODS:
        content = GOOD.get(path, b"{}")
        response = server.client.request(method, path, content=content, headers={"content-type": "application/json"})
        if path not in ALLOWED:
            assert response.status_code == 404, f"{method} {path}"
        elif method in ALLOWED[path]:
            assert response.status_code == (307 if path == "/" else 200), f"{method} {path}"
            assert response.headers.get("location") == ("/docs" if path == "/" else None)
        else:
            assert response.status_code == 405, f"{method} {path}"
            assert set(response.headers["allow"].split(", ")) == ALLOWED[path]
        if response.status_code >= 400 and method != "HEAD":
            assert response.headers["content-type"] == "application/problem+json"
    check_alive(server, path)


def test_the_table_of_paths_is_the_documents_own(server: Server) -> None:
    documented = {
        (path, method.upper())
        for path, operations in server.client.get("/openapi.json").json()["paths"].items()
        for method in operations
    }
    listed = {(path, method) for path, methods in ALLOWED.items() for method in methods}
    assert listed - documented == {(path, "GET") for path in ("/openapi.json", "/docs", "/", "/v2", "/v2/health/live")}
    assert documented <= listed


def test_the_pages_own_files_are_the_only_others(server: Server) -> None:
    page = server.client.get("/docs", headers={"host": f"{MARKER}.example"}).text
    assert MARKER not in page
    for source in re.findall(r'(?:src|href)="(/[^"]*)"', page):
        assert server.client.get(source).status_code == 200
        assert server.client.post(source).status_code == 405
        assert server.client.get(f"{source}/../../../../etc/passwd").status_code == 404
