"""Hostile requests byte by byte, by name: what no HTTP client would send, with the statuses that may come back.

Each must get exactly the statuses given; an empty list means that the server closes, or waits for more, without a word.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.hostile.corpus import MARKER

TYPED = b"Host: x\r\nContent-Type: application/json\r\n"
BODY = b'{"instances": [{}]}'
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
SMUGGLED = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
LATER = b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
MARK = MARKER.encode()


@dataclass(frozen=True)
class Raw:
    """One hostile exchange.

    Args:
        name: what is wrong with it.
        data: what is sent.
        statuses: of the answers, in order.
        is_open: whether the connection may stay open.
    """

    name: str
    data: bytes
    statuses: tuple[int, ...] = (400,)
    is_open: bool = False


def post(headers: bytes, body: bytes = BODY) -> bytes:
    """Return a ``POST /predict`` with further headers."""
    return b"POST /predict HTTP/1.1\r\n" + TYPED + headers + b"\r\n" + body


def get(target: bytes, headers: bytes = b"Host: x\r\n") -> bytes:
    """Return a ``GET``."""
    return b"GET " + target + b" HTTP/1.1\r\n" + headers + b"\r\n"


def last(data: bytes) -> bytes:
    """Return a request after which the connection is closed."""
    return data.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)


FRAMING = [
    Raw("length and chunks", post(LENGTH + CHUNKED, b"0\r\n\r\n" + SMUGGLED)),
    Raw("chunks and length", post(CHUNKED + LENGTH, b"0\r\n\r\n" + SMUGGLED)),
    Raw("two lengths", post(LENGTH + b"Content-Length: 0\r\n", BODY + SMUGGLED)),
    Raw("two equal lengths", post(LENGTH + LENGTH)),
    Raw("a list of lengths", post(b"Content-Length: 19, 19\r\n")),
    Raw("signed length", post(b"Content-Length: +19\r\n")),
    Raw("negative length", post(b"Content-Length: -1\r\n")),
    Raw("hexadecimal length", post(b"Content-Length: 0x13\r\n")),
    Raw("blank in a length", post(b"Content-Length: 1 9\r\n")),
    Raw("empty length", post(b"Content-Length: \r\n")),
    Raw("length beyond 64 bits", post(b"Content-Length: 18446744073709551616\r\n")),
    Raw("length of 5,000 zeros", post(b"Content-Length: " + b"0" * 5_000 + b"19\r\n")),
    Raw(
        "length of 5,000 zeros of a catalog",
        b"PUT /catalog HTTP/1.1\r\n" + TYPED + b"Content-Length: " + b"0" * 5_000 + b"2\r\n\r\n{}",
    ),
    Raw("length of 2^64-1", post(b"Content-Length: 18446744073709551615\r\n"), (413,), is_open=True),
    Raw("identity coding", post(b"Transfer-Encoding: identity\r\n" + LENGTH)),
    Raw("unknown coding", post(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n")),
    Raw("chunked, then identity", post(b"Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n")),
    Raw("gzip, then chunked", post(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n")),
    Raw("two codings", post(CHUNKED + b"Transfer-Encoding: identity\r\n", b"0\r\n\r\n")),
    Raw("blank before a colon", post(b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n")),
    Raw("vertical tab before a coding", post(b"Transfer-Encoding:\x0bchunked\r\n", b"0\r\n\r\n")),
    Raw("chunk size of letters", post(CHUNKED, b"zz\r\n")),
    Raw("negative chunk", post(CHUNKED, b"-1\r\n")),
    Raw("chunk size beyond 64 bits", post(CHUNKED, b"f" * 18 + b"\r\n")),
    Raw("chunk size of 0x2", post(CHUNKED, b"0x2\r\n{}\r\n0\r\n\r\n")),
    Raw("chunks ended by line feeds", post(CHUNKED, b"2\n{}\n0\n\n")),
    Raw("chunk longer than it says", post(CHUNKED, b"2\r\n{}}}}}\r\n0\r\n\r\n")),
    Raw("length in a trailer", post(CHUNKED, b"2\r\n{}\r\n0\r\nContent-Length: 5\r\n\r\n")),
    Raw("100 KB of chunk extension", last(post(CHUNKED, b"2;" + MARK * 8_000 + b"\r\n{}\r\n0\r\n\r\n")), (422,)),
    Raw("two hosts", get(b"/model", b"Host: x\r\nHost: y\r\n")),
    Raw("two types", post(b"Content-Type: text/plain\r\n" + LENGTH)),
    Raw("more body than length", last(post(b"Content-Length: 2\r\n", b"{}" + SMUGGLED)), (422,)),
    Raw("request in a body", get(b"/model", b"Host: x\r\nContent-Length: %d\r\n" % len(SMUGGLED)) + SMUGGLED + LATER, (200, 200)),
    Raw("upgrade of a POST", post(H2C + LENGTH), (200,), is_open=True),
    Raw("upgrade of a POST, and another request in its body", post(H2C + LENGTH, SMUGGLED)),
    Raw("upgrade of a chunked POST", post(H2C + CHUNKED, b"13\r\n" + BODY + b"\r\n0\r\n\r\n"), (200,), is_open=True),
    Raw("websocket with a body", post(b"Connection: Upgrade\r\nUpgrade: websocket\r\n" + LENGTH, SMUGGLED)),
    Raw("expects 100", last(post(LENGTH + b"Expect: 100-continue\r\n")), (100, 200)),
    Raw("expects 100 for too much", post(b"Content-Length: 99999999\r\nExpect: 100-continue\r\n", b""), (413,), is_open=True),
]  # fmt: skip
HEADS = [
    Raw("1 MB header", get(b"/model", b"Host: x\r\nX-A: " + MARK * 80_000 + b"\r\n")),
    Raw("1 MB header name", get(b"/model", b"Host: x\r\n" + b"a" * 2**20 + b": b\r\n")),
    Raw("10,000 headers", get(b"/model", b"Host: x\r\n" + b"X-A: b\r\n" * 10_000)),
    Raw("200 headers", get(b"/model", b"Host: x\r\n" + b"X-A: b\r\n" * 200)),
    Raw("1 MB path", get(b"/" + MARK * 80_000)),
    Raw("1 MB query", get(b"/model?" + b"a" * 2**20)),
    Raw("1 MB method", b"A" * 2**20 + b" / HTTP/1.1\r\n\r\n"),
    Raw("200,000 blank lines", b"\r\n" * 200_000 + LATER),
    Raw("line feeds alone", b"GET /model HTTP/1.1\nHost: x\n\n"),
    Raw("carriage returns alone", b"GET /model HTTP/1.1\rHost: x\r\r"),
    Raw("folded header", get(b"/model", b"Host: x\r\nX-A: b\r\n c\r\n")),
    Raw("NUL in a header", get(b"/model", b"Host: x\r\nX-A: b\x00c\r\n")),
    Raw("header without name", get(b"/model", b"Host: x\r\n: b\r\n")),
    Raw("blank before the first header", get(b"/model", b" Host: x\r\n")),
    Raw("bare query as target", get(b"?a")),
    Raw("backslash", get(b"\\model")),
    Raw("raw UTF-8 in a path", get("/m\u00f6del".encode())),
    Raw("raw byte in a path", get(b"/\xff")),
    Raw("CONNECT", b"CONNECT other:443 HTTP/1.1\r\nHost: other:443\r\n\r\n"),
    Raw("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    Raw("lower-case method", b"get /model HTTP/1.1\r\nHost: x\r\n\r\n"),
    Raw("unknown method", b"HACK /model HTTP/1.1\r\nHost: x\r\n\r\n"),
    Raw("HTTP/9.9", b"GET /model HTTP/9.9\r\nHost: x\r\n\r\n"),
    Raw("HTTP/1.1x", b"GET /model HTTP/1.1x\r\nHost: x\r\n\r\n"),
    Raw("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    Raw("SSH", b"SSH-2.0-OpenSSH_9.9\r\n"),
    Raw("NULs", b"\x00" * 100_000),
    Raw("a pickle", b"\x80\x04\x95\x1e\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94."),
]
TARGETS = [
    *(Raw(f"path {target!r}", last(get(target)), (404,)) for target in (
        b"/%2fmodel", b"/model%2f", b"/model/", b"/predict/", b"/docs/", b"/model;a=b", b"/x/../model", b"/x/%2e%2e/model", b"/./model",
        b"/model/..", b"/..%5cmodel", b"/model%00", b"/%256dodel", b"/%zz", b"/%", b"/%ff", b"/%ed%a0%80", b"/MODEL",
        b"/model%0d%0aSet-Cookie:%20a=b", b"/model%20", b"//model", b"//other/model", b"/" + MARK, b"*", b"/.git/config", b"/.env",
        b"/docs/..%2f..%2f..%2fetc/passwd", b"/docs/../../etc/passwd", b"/artifacts/current", b"/v2/repository/models/m/load",
    )),
    *(Raw(f"path {target!r}", last(get(target)), (200,)) for target in (
        b"/%6dodel", b"/model?x=" + MARK, b"/model#a", b"http://other/model", b"http://user@other:99/model",
    )),
    *(Raw(f"host {host!r}", last(get(b"/model", b"Host: " + host + b"\r\n")), (200,)) for host in (
        b"a/b?c", b"", b"\xff\xfe", b"x:99999", b"[::1", MARK, b"x" * 10_000,
    )),
    Raw("path in a proxy's headers", last(get(
        b"/model", b"Host: x\r\nX-Forwarded-Host: y\r\nX-Forwarded-Prefix: /y\r\nX-Original-URL: /metrics\r\nX-Rewrite-URL: /metrics\r\n"
        b"X-HTTP-Method-Override: PUT\r\nX-Forwarded-For: 127.0.0.1\r\nRange: bytes=0-,0-,0-\r\n")), (200,)),
    Raw("3,000 ranges", last(get(b"/docs", b"Host: x\r\nRange: bytes=" + b"0-," * 3_000 + b"\r\n")), (200,)),
    Raw("websocket", last(get(b"/model", b"Host: x\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n")), (200,)),
    Raw("TRACE", last(b"TRACE /model HTTP/1.1\r\nHost: x\r\nX-A: " + MARK + b"\r\n\r\n"), (405,)),
]  # fmt: skip
DEADLINES = [
    Raw(f"deadline {value!r}", last(post(b"X-Request-Timeout-Ms: " + value + b"\r\n" + LENGTH)), (status,))
    for value, status in (
        (b"nan", 422), (b"-nan", 422), (MARK, 422), (b"\xff", 422), (b"", 422), (b"1e999", 200), (b"9" * 5_000, 200), (b"60_000", 200),
    )
]  # fmt: skip
ALL = [*FRAMING, *HEADS, *TARGETS, *DEADLINES]
