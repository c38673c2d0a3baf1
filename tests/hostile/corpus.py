"""Hostile bodies by name: bytes that a JSON service of this kind has been known to fail on, with the status each must get.

A *value* stands in one field of an otherwise good request; a *body* is the whole of a request. Both hold `MARKER` wherever
they can hold text, so that a test can look for it in the answer. Pure data: nothing is sent here.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

MARKER = "zq7Jx-hostile"
"""No answer may hold it. Names of unknown fields are shown when they are plain ones, so such names do without."""
MAX_BODY = 4 * 2**20
MAX_ROWS = 2_048

OK, UNPROCESSABLE, TOO_LARGE, UNSUPPORTED = 200, 422, 413, 415


@dataclass(frozen=True)
class Case:
    """One hostile text.

    Args:
        name: what is wrong with it.
        text: the bytes: of a JSON value, or of a whole body.
        status: what it must be answered with.
        headers: of the request.
    """

    name: str
    text: bytes
    status: int = UNPROCESSABLE
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "application/json"})


def nested(depth: int, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    """Return a JSON value that is ``depth`` levels deep."""
    return opening * depth + b"1" + closing * depth


NUMBERS = [
    Case("NaN", b"NaN"),
    Case("Infinity", b"Infinity"),
    Case("-Infinity", b"-Infinity"),
    Case("nan", b"nan"),
    Case("1e999", b"1e999"),
    Case("-1e999", b"-1e999"),
    Case("integer of 400 digits", b"9" * 400),
    Case("integer of 5,000 digits", b"9" * 5_000),
    Case("float of 100,000 digits", b"0." + b"3" * 100_000, OK),
    Case("-0.0", b"-0.0", OK),
    Case("subnormal", b"5e-324", OK),
    Case("underflow", b"1e-999", OK),
    Case("1e308", b"1e308", OK),
    Case("-1.8e308", b"-1.8e308"),
    Case("2^53+1", b"9007199254740993", OK),
    Case("2^70", b"1180591620717411303424", OK),
    Case("exponent of 400 digits", b"1e" + b"9" * 400),
    Case("true for a number", b"true", OK),
    Case("text for a number", b'"1.5"', OK),
    Case("NaN as text", b'"NaN"', OK),
    Case("list for a number", b"[1.5]"),
    Case("object for a number", b'{"value": 1.5}'),
    Case("marker for a number", f'"{MARKER}"'.encode()),
    Case("hexadecimal", b"0x10"),
    Case("octal", b"010"),
    Case("leading plus", b"+1"),
    Case("bare point", b"1."),
    Case("underscores", b"1_000"),
    Case("null is missing", b"null", OK),
]
INTEGERS = [
    Case("1.0 for an integer", b"1.0", OK),
    Case("1e3 for an integer", b"1e3", OK),
    Case("true for an integer", b"true"),
    Case("text for an integer", b'"7"', OK),
    Case("2^53+1", b"9007199254740993", OK),
    Case("2^63-1", b"9223372036854775807", OK),
    Case("2^63", b"9223372036854775808", OK),
    Case("-2^63", b"-9223372036854775808", OK),
    Case("-2^63-1", b"-9223372036854775809", OK),
    Case("2^70", b"1180591620717411303424", OK),
    Case("256 digits", b"1" + b"0" * 255, OK),
    Case("257 digits", b"1" + b"0" * 256),
    Case("4,301 digits", b"1" + b"0" * 4_300),
    Case("100,000 digits", b"1" * 100_000),
    Case("NaN for an integer", b"NaN"),
    Case("-0", b"-0", OK),
    Case("marker for an integer", f'"{MARKER}"'.encode()),
]
TOKENS = [
    Case("lone high surrogate", b'"' + MARKER.encode() + b'\\ud800"'),
    Case("lone low surrogate", b'"\\udc00' + MARKER.encode() + b'"'),
    Case("surrogates the wrong way round", b'"\\udc00\\ud800"'),
    Case("surrogate in raw UTF-8", b'"\xed\xa0\x80"'),
    Case("surrogate pair", b'"\\ud83d\\ude00"', OK),
    Case("escaped NUL", b'"a\\u0000b"', OK),
    Case("raw NUL", b'"a\x00b"'),
    Case("raw line break", b'"a\nb"'),
    Case("escaped line break", b'"a\\r\\nSet-Cookie: a=b"', OK),
    Case("right to left", '"\u202e\u0627\u200f"'.encode(), OK),
    Case("combining marks", ('"' + "e" + "\u0301" * 200 + '"').encode(), OK),
    Case("four-byte character", '"\U0001f600"'.encode(), OK),
    Case("noncharacter", '"\uffff\U0010ffff"'.encode(), OK),
    Case("composed", '"caf\u00e9"'.encode(), OK),
    Case("decomposed", '"cafe\u0301"'.encode(), OK),
    Case("empty", b'""', OK),
    Case("256 characters", b'"' + b"a" * 256 + b'"', OK),
    Case("256 wide characters", ('"' + "\U0001f600" * 256 + '"').encode(), OK),
    Case("257 characters", b'"' + MARKER.encode() + b"a" * 257 + b'"', OK),
    Case("1 MB", b'"' + MARKER.encode() * 80_000 + b'"', OK),
    Case("10 MB", b'"' + MARKER.encode() * 800_000 + b'"', OK),
    Case("a million escapes", b'"' + b"\\u0041" * 600_000 + b'"', OK),
    Case("ANSI escape", b'"\\u001b[31m"', OK),
    Case("markup", b'"<script>alert(1)</script>"', OK),
    Case("template", b'"{{7*7}}${7*7}%s%n"', OK),
    Case("query", b'"\'; drop table ads; --"', OK),
    Case("path", b'"../../../../etc/passwd"', OK),
    Case("bad escape", b'"\\x41"'),
    Case("short escape", b'"\\u12"'),
    Case("unterminated", b'"' + MARKER.encode()),
    Case("overlong UTF-8", b'"\xc0\xaf"'),
    Case("beyond Unicode", b'"\xf4\x90\x80\x80"'),
    Case("half a character", b'"\xe2\x82"'),
    Case("single quotes", b"'a'"),
    Case("number for a token", b"7", OK),
    Case("list for a token", f'["{MARKER}"]'.encode()),
    Case("object for a token", f'{{"{MARKER}": "{MARKER}"}}'.encode()),
]
SEQUENCES = [
    Case("text for a sequence", f'"{MARKER}"'.encode(), OK),
    Case("object for a sequence", b'{"0": "ad1"}'),
    Case("null in a sequence", b'["ad1", null]', OK),
    Case("number in a sequence", b'["ad1", 1]', OK),
    Case("list in a sequence", f'[["{MARKER}"]]'.encode()),
    Case("lone surrogate in a sequence", b'["\\ud800"]'),
    Case("empty", b"[]", OK),
    Case("1,000 tokens", json.dumps(["ad1"] * 1_000).encode(), OK),
    Case("1,001 tokens", json.dumps(["ad1"] * 1_001).encode(), OK),
    Case("a million tokens", b"[" + b"1," * 1_000_000 + b"1]", OK),
    Case("trailing comma", b'["ad1",]'),
    *(Case(f"{depth} lists deep", nested(depth)) for depth in (50, 100, 1_000, 250_000)),
    *(Case(f"{depth} objects deep", nested(depth, b'{"a":', b"}")) for depth in (50, 100, 1_000, 250_000)),
]
FIELDS = {"user_id": INTEGERS, "ad_id": TOKENS, "price": NUMBERS, "clicked_ads": SEQUENCES}
"""The values for each field of the small artifact."""
UNCLOSED = [
    Case(f"{depth:,} {name}, never closed", opening * depth)
    for depth in (1_000, 500_000)
    for name, opening in (("lists", b"["), ("objects", b'{"a":'))
]
BODIES = [
    Case("empty", b""),
    Case("one blank", b" "),
    Case("blanks", b" \t\r\n" * 250_000),
    Case("null", b"null"),
    Case("true", b"true"),
    Case("a number", b"1"),
    Case("a text", f'"{MARKER}"'.encode()),
    Case("a list", f'["{MARKER}"]'.encode()),
    Case("a list of requests", b'[{"instances": [{}]}]'),
    Case("an empty object", b"{}"),
    Case("an unknown key", f'{{"{MARKER}": 1}}'.encode()),
    Case("NaN alone", b"NaN"),
    Case("bad UTF-8", b"\xff\xfe\xfd"),
    Case("bad UTF-8 in a key", b'{"\xff' + MARKER.encode() + b'": 1}'),
    Case("byte order mark", b'\xef\xbb\xbf{"instances": [{}], "context": {}, "candidates": [{}], "items": {}}'),
    Case("UTF-16", json.dumps({"instances": [{}], "items": {}}).encode("utf-16")),
    Case("UTF-16 without mark", json.dumps({"instances": [{}], "items": {}}).encode("utf-16-le")),
    Case("UTF-32", json.dumps({"instances": [{}], "items": {}}).encode("utf-32")),
    Case("EBCDIC", json.dumps({"instances": [{}], "items": {}}).encode("cp500")),
    Case("NULs", b"\x00" * 10_000),
    Case("trailing text", b'{"items": {}, "instances": [{}]} ' + MARKER.encode()),
    Case("two documents", b'{"items": {}}{"items": {}}'),
    Case("a comment", b'{"items": {} /* ' + MARKER.encode() + b" */}"),
    Case("unterminated", f'{{"instances": [{{"site": "{MARKER}'.encode()),
    Case("lone surrogate as key", b'{"\\ud800' + MARKER.encode() + b'": 1}'),
    Case("10 MB text", b'"' + MARKER.encode() * 800_000 + b'"'),
    Case("10 MB key", b'{"' + MARKER.encode() * 800_000 + b'": 1}'),
    Case("100,000 unknown keys", json.dumps({f"{MARKER}{i}": i for i in range(100_000)}).encode()),
    Case("dunder keys", f'{{"__proto__": "{MARKER}", "__class__": 1, "constructor": 1, "__init__": 1}}'.encode()),
    Case("a pickle", b"\x80\x04\x95\x1e\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94."),
    Case("a pickle in protocol 0", b"cposix\nsystem\n(S'" + MARKER.encode() + b"'\ntR."),
    Case("YAML", f"!!python/object/apply:os.system ['{MARKER}']".encode()),
    Case("XML with an entity", b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>'),
    Case("MessagePack", b"\x81\xa9instances\x91\x80"),
    Case("a zip's head", b"PK\x03\x04" + bytes(range(256)) * 16),
    *(Case(f"{depth:,} lists", nested(depth)) for depth in (50, 100, 1_000, 250_000)),
    *(Case(f"{depth:,} objects", nested(depth, b'{"a":', b"}")) for depth in (50, 100, 1_000, 250_000)),
    *UNCLOSED,
]

PLAIN = {"content-type": "application/json"}
GOOD = {
    "/predict": b'{"instances": [{"ad_id": "ad1"}]}',
    "/rank": b'{"context": {"user_id": 7}, "candidates": [{"ad_id": "ad1"}]}',
    "/explain": b'{"instances": [{"ad_id": "ad1"}]}',
    "/catalog": b'{"items": {"first": {"ad_id": "ad1"}}}',
}
BOMB = gzip.compress(b" " * (64 * 2**20))
WRAPPED = [
    Case("gzip bomb", BOMB, UNSUPPORTED, {**PLAIN, "content-encoding": "gzip"}),
    Case("gzip bomb, not declared", BOMB, UNPROCESSABLE, PLAIN),
    Case("gzip", gzip.compress(b"{}"), UNSUPPORTED, {**PLAIN, "content-encoding": "gzip"}),
    Case("deflate", zlib.compress(b"{}"), UNSUPPORTED, {**PLAIN, "content-encoding": "deflate"}),
    Case("brotli", b"{}", UNSUPPORTED, {**PLAIN, "content-encoding": "br"}),
    Case("identity", b"{}", UNSUPPORTED, {**PLAIN, "content-encoding": "identity"}),
    Case("unknown encoding", b"{}", UNSUPPORTED, {**PLAIN, "content-encoding": MARKER}),
    Case("no type", b"{}", UNSUPPORTED, {}),
    Case("empty type", b"{}", UNSUPPORTED, {"content-type": ""}),
    Case("text", b"{}", UNSUPPORTED, {"content-type": "text/plain"}),
    Case("latin1", b"{}", UNSUPPORTED, {"content-type": "application/json; charset=latin1"}),
    Case("UTF-16 declared", b"{}", UNSUPPORTED, {"content-type": "application/json; charset=utf-16"}),
    Case("two types", b"{}", UNSUPPORTED, {"content-type": "application/json, text/plain"}),
    Case("type with marker", b"{}", UNSUPPORTED, {"content-type": f"application/{MARKER}"}),
    Case("form", b"instances=1", UNSUPPORTED, {"content-type": "application/x-www-form-urlencoded"}),
    Case(
        "multipart",
        f'--x\r\nContent-Disposition: form-data; name="{MARKER}"\r\n\r\n1\r\n--x--\r\n'.encode(),
        UNSUPPORTED,
        {"content-type": "multipart/form-data; boundary=x"},
    ),
    Case("pickle", b"\x80\x04N.", UNSUPPORTED, {"content-type": "application/vnd.bentoml+pickle"}),
    Case("octets", b"{}", UNSUPPORTED, {"content-type": "application/octet-stream"}),
    Case("10 KB of type", b"{}", UNSUPPORTED, {"content-type": "application/json; a=" + "b" * 10_000}),
]
