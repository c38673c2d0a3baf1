"""The head of a connection's first scored request, by which others like it are known without being parsed again.

Clients send the same head with each request of a connection, but for the length of the body. What the parser made of those
bytes once, it would make of them again; everything else goes to the parser.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)(?=\r\n)", re.IGNORECASE)
MAX_DIGITS = 7
"""Of a length; more of a body comes in several pieces anyway."""
END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class KnownHead:
    """A head of a ``POST`` as the parser read it, and its bytes before and after the length."""

    path: str
    headers: Mapping[bytes, bytes]
    before: bytes
    after: bytes

    @classmethod
    def learn(cls, begun: bytes, path: str, headers: Mapping[bytes, bytes]) -> KnownHead | None:
        """Return how to know heads like the one that ``begun`` begins with, or ``None`` where it does not tell one length.

        Args:
            begun: bytes from the request's first on, as the parser was given them.
            path: of the request.
            headers: of the request, as the parser read them.
        """
        head, end, _ = begun.partition(END)
        lengths = list(LENGTH.finditer(head + end))
        if not end or len(lengths) != 1 or headers.get(b"content-length") != lengths[0][1]:
            return None
        start, stop = lengths[0].span(1)
        return cls(path, headers, head[:start], (head + end)[stop:])

    def body_start(self, data: bytes) -> int | None:
        """Return where the body begins if ``data`` is one request, whole, with this head, whatever the length.

        >>> known = KnownHead.learn(b"POST /p HTTP/1.1\\r\\nContent-Length: 2\\r\\n\\r\\n{}", "/p", {b"content-length": b"2"})
        >>> known.body_start(b"POST /p HTTP/1.1\\r\\nContent-Length: 4\\r\\n\\r\\n[12]")
        39
        """
        start = len(self.before)
        stop = data.find(self.after, start, start + MAX_DIGITS + len(self.after))
        if stop < 0 or not data.startswith(self.before):
            return None
        digits, begin = data[start:stop], stop + len(self.after)
        return begin if digits.isdigit() and int(digits) == len(data) - begin else None
