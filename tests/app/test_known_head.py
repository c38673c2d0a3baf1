"""What is known without the parser against the parser, which is the oracle."""

from __future__ import annotations

from typing import Any

import httptools
from hypothesis import given
from hypothesis import strategies as st

from app.known_head import KnownHead

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


def learn(before: bytes, after: bytes, body: bytes = b"{}") -> KnownHead:
    data = before + b"%d" % len(body) + after + body
    parsed = Parsed(data)
    assert parsed.num_whole == 1
    known = KnownHead.learn(data, parsed.url.decode(), parsed.headers)
    assert known is not None
    return known


@given(heads(), BODIES, BODIES)
def test_another_body_with_the_same_head_is_known(head: tuple[bytes, bytes], first: bytes, body: bytes) -> None:
    before, after = head
    known = learn(before, after, first)
    data = before + b"%d" % len(body) + after + body
    start = known.body_start(data)
    assert start is not None
    assert data[start:] == body
    assert (Parsed(data).num_whole, Parsed(data).body, Parsed(data).url) == (1, body, b"/predict")


@given(heads(), BODIES, st.data())
def test_whatever_is_known_is_what_the_parser_reads(head: tuple[bytes, bytes], body: bytes, data: Any) -> None:
    before, after = head
    known = learn(before, after)
    request = bytearray(
        before + data.draw(st.sampled_from([b"%d" % len(body), b"+2", b"0002", b"2 ", b"", b"2\r\n"])) + after + body
    )
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(request)))
        change = data.draw(st.sampled_from([b"", b"\r\n", b" ", b"0", b"content-length: 1\r\n", b"G"]))
        request[at : at + data.draw(st.integers(0, 2))] = change
    start = known.body_start(bytes(request))
    if start is None:
        return
    parsed = Parsed(bytes(request))
    assert (parsed.is_valid, parsed.num_begun, parsed.num_whole, parsed.url, parsed.body) == (
        True,
        1,
        1,
        b"/predict",
        bytes(request[start:]),
    )
    assert {**parsed.headers, b"content-length": b""} == {**known.headers, b"content-length": b""}


def test_a_head_without_one_length_is_not_learnt() -> None:
    for head in (
        b"POST /predict HTTP/1.1\r\nhost: a\r\n\r\n",
        b"POST /predict HTTP/1.1\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\n",
        b"POST /predict HTTP/1.1\r\ncontent-length: 2\r\nhost: a\r\n",
    ):
        assert KnownHead.learn(head + b"{}", "/predict", {b"content-length": b"2"}) is None
    whole = b"POST /predict HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}"
    assert KnownHead.learn(whole, "/predict", {b"content-length": b"3"}) is None  # of another request
    assert KnownHead.learn(b"", "/predict", {b"content-length": b"2"}) is None
