"""What is known without the parser against the parser, which is the oracle."""

from __future__ import annotations

from typing import Any

import httptools
from hypothesis import given
from hypothesis import strategies as st

from app.http.known_head import MAX_LEARNT_BYTES, SAME, KnownHead

NAMES = st.sampled_from([b"Host", b"Accept", b"X-Content-Length", b"Content-Type", b"Content-Length-Hint", b"Via"])
VALUES = st.sampled_from([b"a", b"", b"7", b"*/*", b"content-length: 3", b"application/json"])
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=4)
LENGTH_NAMES = st.sampled_from([b"Content-Length", b"content-length", b"CONTENT-LENGTH"])
SPACES = st.sampled_from([b"", b" ", b"  ", b"\t"])
BODIES = st.binary(max_size=120)


class Parsed:
    """What the parser makes of some bytes."""

    def __init__(self, data: bytes) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.url = self.body = b""
        self.num_whole = self.num_begun = 0
        self.is_valid = True
        self.parser = httptools.HttpRequestParser(self)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.is_valid = False

    def on_message_begin(self) -> None:
        self.num_begun += 1

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.num_whole += 1


@st.composite
def heads(draw: Any) -> tuple[bytes, bytes]:
    """What stands before and after the length."""
    first, last = draw(HEADERS), draw(HEADERS)
    before = b"POST /predict HTTP/1.1\r\n" + b"".join(b"%b: %b\r\n" % header for header in first)
    before += draw(LENGTH_NAMES) + b":" + draw(SPACES)
    return before, b"\r\n" + b"".join(b"%b: %b\r\n" % header for header in last) + b"\r\n"


def learn(data: bytes, known: KnownHead | None = None) -> KnownHead:
    parsed = Parsed(data)
    assert parsed.num_whole == 1
    found = KnownHead.learn(data, parsed.url.decode(), parsed.headers, known)
    assert found is not None
    return found


def with_length(head: tuple[bytes, bytes], body: bytes) -> bytes:
    return head[0] + b"%d" % len(body) + head[1] + body


def assert_read_as_parsed(known: KnownHead, data: bytes) -> bool:
    """Return whether a request is known; if so the parser reads the same."""
    request = known.read(data, 1.5)
    if request is None:
        return False
    parsed = Parsed(data)
    assert (parsed.is_valid, parsed.num_begun, parsed.num_whole, parsed.url) == (True, 1, 1, b"/predict")
    assert (request.data, request.arrived, request.body) == (data, 1.5, parsed.body)
    assert request.traceparent == parsed.headers.get(b"traceparent")
    assert request.timeout_ms == parsed.headers.get(b"x-request-timeout-ms")
    assert {name: parsed.headers.get(name) for name in SAME} == {name: known.headers.get(name) for name in SAME}
    assert parsed.headers.keys() == known.headers.keys()
    return True


@given(heads(), BODIES, BODIES)
def test_another_body_with_the_same_head_is_known(head: tuple[bytes, bytes], first: bytes, body: bytes) -> None:
    assert assert_read_as_parsed(learn(with_length(head, first)), with_length(head, body))


@given(heads(), BODIES, st.data())
def test_whatever_is_known_is_what_the_parser_reads(head: tuple[bytes, bytes], body: bytes, data: Any) -> None:
    before, after = head
    known = learn(with_length(head, b"{}"))
    length = data.draw(st.sampled_from([b"%d" % len(body), b"+2", b"0002", b"2 ", b"", b"2\r\n"]))
    changed = changed_a_little(before + length + after + body, data)
    if assert_read_as_parsed(known, changed):
        parsed = Parsed(changed)
        assert {**parsed.headers, b"content-length": b""} == {**known.headers, b"content-length": b""}


def changed_a_little(request: bytes, data: Any) -> bytes:
    changed = bytearray(request)
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(changed)))
        change = data.draw(
            st.sampled_from([b"", b"\r\n", b" ", b"0", b"\t", b"\0", b"content-length: 1\r\n", b"G", b":"])
        )
        changed[at : at + data.draw(st.integers(0, 2))] = change
    return bytes(changed)


OWN_NAMES = [b"traceparent", b"Traceparent", b"X-Request-Timeout-Ms", b"X-Request-Id", b"User-Agent", b"Cookie"]
OWN_VALUES = st.sampled_from(
    [b"", b"1", b"00-ab-01", b"a b", b" a", b"a ", b"\ta", b"a\t", b"\xe4", b"x" * 40, b"1,2: 3"]
)


@st.composite
def templates(draw: Any) -> list[tuple[bytes, bool]]:
    """Headers, and whether their values are each request's own."""
    own = [(name, True) for name in draw(st.lists(st.sampled_from(OWN_NAMES), unique_by=bytes.lower, max_size=4))]
    same = [(b"%b: %b" % header, False) for header in draw(HEADERS)]
    return list(draw(st.permutations([*own, *same, (b"content-length", True)])))


def filled(template: list[tuple[bytes, bool]], body: bytes, data: Any) -> bytes:
    lines = [b"POST /predict HTTP/1.1"]
    for name, is_own in template:
        value = b"%d" % len(body) if name == b"content-length" else data.draw(OWN_VALUES)
        lines.append(b"%b: %b" % (name, value) if is_own else name)
    return b"\r\n".join([*lines, b"", body])  # ends the head, and begins the body


@given(templates(), st.data())
def test_values_of_their_own_are_read_as_the_parser_reads_them(template: list[tuple[bytes, bool]], data: Any) -> None:
    requests = [filled(template, b"{}", data) for _ in range(3)]
    if not all(Parsed(request).num_whole == 1 for request in requests):
        return
    known = learn(requests[1], learn(requests[0]))
    for request in (*requests, changed_a_little(requests[2], data)):
        assert_read_as_parsed(known, request)


TRACE = "00-" + "0" * 31 + "{}-" + "b" * 16 + "-01"


def traced(number: int, body: bytes = b"{}", more: bytes = b"") -> bytes:
    trace = TRACE.format(number).encode()
    head = b"POST /predict HTTP/1.1\r\nTraceparent: %b\r\n%bContent-Length: %d\r\nX-Request-Id: %d\r\n\r\n"
    return head % (trace, more, len(body), number) + body


def test_what_differs_between_two_heads_may_be_anything_in_the_third() -> None:
    first = learn(traced(1))
    assert first.read(traced(2), 0.0) is None
    request = learn(traced(2), first).read(traced(3, b"[1, 2]"), 0.0)
    assert request is not None
    assert (request.body, request.traceparent) == (b"[1, 2]", TRACE.format(3).encode())


def test_what_decides_what_a_request_is_may_not_differ() -> None:
    for name in SAME - {b"content-encoding", b"transfer-encoding", b"upgrade", b"expect"}:
        first, second, third = (traced(1, more=b"%b: %d\r\n" % (name, i)) for i in range(3))
        known = learn(second, learn(first))
        assert known.read(second, 0.0) is not None
        assert known.read(first, 0.0) is None
        assert known.read(third, 0.0) is None


def test_other_headers_or_another_order_are_another_head() -> None:
    first = learn(traced(1))
    for more in (b"Accept: a\r\n", b"accept: a\r\n"):
        known = learn(traced(2, more=more), first)
        assert known.read(traced(2, b"[]", more), 0.0) is not None
        assert known.read(traced(3, more=more), 0.0) is None
        assert known.read(traced(1), 0.0) is None


def test_a_head_without_one_length_is_not_learnt() -> None:
    for head in (
        b"POST /predict HTTP/1.1\r\nhost: a\r\n\r\n",
        b"POST /predict HTTP/1.1\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\n",
        b"POST /predict HTTP/1.1\r\ncontent-length: 2\r\nhost: a\r\n",
        b"POST /predict HTTP/1.1\r\ncontent-length: 2\r\ntraceparent: a\r\ntraceparent: b\r\n\r\n",
        b"POST /other HTTP/1.1\r\ncontent-length: 2\r\n\r\n",
        b"POST /predict HTTP/1.1\r\ncontent-length: 2\r\ncookie: %b\r\n\r\n" % bytes(MAX_LEARNT_BYTES),
        b"GET /predict HTTP/1.1\r\ncontent-length: 2\r\n\r\n",
    ):
        assert KnownHead.learn(head + b"{}", "/predict", {b"content-length": b"2"}) is None
    whole = b"POST /predict HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}"
    assert KnownHead.learn(whole, "/predict", {b"content-length": b"3"}) is None  # of another request
    assert KnownHead.learn(b"", "/predict", {b"content-length": b"2"}) is None
