"""The heads of a connection's scored requests, by which others like them are known without being parsed again.

A client's requests have the same head, but for the length of the body and for headers of which each request has its own,
as a trace's. What the parser made of the rest once, it would make of it again; everything else goes to the parser.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from app.http.deadlines import is_late

END = b"\r\n\r\n"
LENGTH = re.compile(rb"content-length:[ \t]*([0-9]+)", re.IGNORECASE)
MAX_LEARNT_BYTES = 8_192
"""Of a head; it is kept in pieces as long as its connection."""
MAX_DIGITS = 7
"""Of a length; more of a body comes in several pieces anyway."""
MAX_VALUE = 1_024
"""Bytes of a header's value that is a request's own."""
TAME = bytes(range(ord(" "), ord("~") + 1))
"""What such a value may consist of."""
SAME = {
    b"authorization",
    b"connection",
    b"content-encoding",
    b"content-type",
    b"expect",
    b"host",
    b"proxy-connection",
    b"transfer-encoding",
    b"upgrade",
    b"x-api-key",
}
"""Headers that decide what a request is; where one differs, the head is another."""
CONTENT_LENGTH, TRACEPARENT, TIMEOUT = b"content-length", b"traceparent", b"x-request-timeout-ms"
READ = (CONTENT_LENGTH, TRACEPARENT, TIMEOUT)
"""Headers whose values are read from each request."""


@dataclass(slots=True, eq=False)
class KnownRequest:
    """A whole request whose head is known."""

    data: bytes
    """All of it, as it came."""
    start: int
    """Where its body begins."""
    arrived: float
    """By `time.perf_counter`."""
    traceparent: bytes | None = None
    timeout_ms: bytes | None = None

    @property
    def body(self) -> bytes:
        """Its body."""
        return self.data[self.start :]

    @property
    def is_late(self) -> bool:
        """Whether its own deadline has passed, or is no number."""
        return self.timeout_ms is not None and is_late(self.timeout_ms, self.arrived)


class _Gap(NamedTuple):
    """A value that is each request's own: its header's name in lower case, and the bytes of the head after it."""

    name: bytes
    after: bytes
    reach: int
    """Bytes from the value's first on in which what comes after it is looked for."""


@dataclass(frozen=True, slots=True)
class KnownHead:
    """The head of a ``POST`` as the parser read it, and which of its values may be others."""

    path: str
    headers: Mapping[bytes, bytes]
    _lines: tuple[bytes, ...]
    _varying: frozenset[int]
    """Places of lines whose values differ from request to request."""
    _before: bytes
    _gaps: tuple[_Gap, ...]
    _traceparent: bytes | None
    _timeout_ms: bytes | None

    @classmethod
    def learn(
        cls, begun: bytes, path: str, headers: Mapping[bytes, bytes], known: KnownHead | None = None
    ) -> KnownHead | None:
        """Return how to know heads like the one that ``begun`` begins with, or ``None`` if it is too long or tells no one length.

        Args:
            begun: bytes from the request's first on, as the parser was given them.
            path: of the request.
            headers: of the request, as the parser read them.
            known: a head that this one did not match; values in which the two differ may be others henceforth.
        """
        head, end, _ = begun[:MAX_LEARNT_BYTES].partition(END)
        lines = tuple(head.split(b"\r\n"))
        names = [_name(line) for line in lines]
        if not end or lines[0].split(b" ", 2)[:2] != [b"POST", path.encode()]:
            return None
        if names.count(CONTENT_LENGTH) != 1 or any(names.count(name) > 1 for name in READ):
            return None
        place = names.index(CONTENT_LENGTH)
        length = LENGTH.fullmatch(lines[place])
        if length is None or headers.get(CONTENT_LENGTH) != length[1]:
            return None
        varying = {place} | (set() if known is None else set(known._differing(lines)))
        if any(names[i] in SAME for i in varying):
            varying = {place}
        starts = {i: length.start(1) if i == place else lines[i].index(b":") + 1 for i in varying}
        before, *after = _apart(lines, starts)
        gaps = [_gap(names[i], rest) for i, rest in zip(sorted(starts), after, strict=True)]
        given = headers.get(TRACEPARENT), headers.get(TIMEOUT)
        return cls(path, headers, lines, frozenset(varying), before, tuple(gaps), *given)

    def read(self, data: bytes, arrived: float) -> KnownRequest | None:
        r"""Return the request that ``data`` is if it is one, whole, with this head.

        >>> known = KnownHead.learn(b"POST /p HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", "/p", {b"content-length": b"2"})
        >>> known.read(b"POST /p HTTP/1.1\r\nContent-Length: 4\r\n\r\n[12]", 0.0).body
        b'[12]'
        """
        if not data.startswith(self._before):
            return None
        at, length = len(self._before), b""
        traceparent, timeout_ms = self._traceparent, self._timeout_ms
        for name, after, reach in self._gaps:
            stop = data.find(after, at, at + reach)
            if stop < 0:
                return None
            value = data[at:stop]
            at = stop + len(after)
            if name is CONTENT_LENGTH:
                length = value
            elif value.translate(None, TAME) or value.endswith(b" "):
                return None
            elif name is TRACEPARENT:
                traceparent = value.lstrip(b" ")
            elif name is TIMEOUT:
                timeout_ms = value.lstrip(b" ")
        if not length.isdigit() or int(length) != len(data) - at:
            return None
        return KnownRequest(data, at, arrived, traceparent, timeout_ms)

    def _differing(self, lines: tuple[bytes, ...]) -> Iterator[int]:
        """Yield the places of lines that differ now, or did before, unless the two heads are of different headers."""
        if lines[0] == self._lines[0] and [*map(_raw_name, lines)] == [*map(_raw_name, self._lines)]:
            yield from self._varying
            yield from (i for i, (line, own) in enumerate(zip(lines, self._lines, strict=True)) if line != own)


def _raw_name(line: bytes) -> bytes:
    return line.partition(b":")[0]


def _name(line: bytes) -> bytes:
    return _raw_name(line).lower()


def _gap(name: bytes, after: bytes) -> _Gap:
    # Names that are read are compared by identity.
    name = next((known for known in READ if known == name), name)
    return _Gap(name, after, (MAX_DIGITS if name is CONTENT_LENGTH else MAX_VALUE) + len(after))


def _apart(lines: tuple[bytes, ...], starts: Mapping[int, int]) -> Iterator[bytes]:
    """Yield a head's bytes before, between and after the values that begin at ``starts``, by line."""
    part = b""
    for i, line in enumerate(lines):
        if i in starts:
            yield part + line[: starts[i]]
            part = b"\r\n"
        else:
            part += line + b"\r\n"
    yield part + b"\r\n"
