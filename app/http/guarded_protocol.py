"""uvicorn's HTTP protocol with the limits that it lacks.

Built on the callbacks that asyncio and httptools document; a test fails when a new uvicorn no longer calls them. Under
another ASGI server the app runs without it, within that server's own limits.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.http.joined_writes import JoinedWrites

REQUEST_S = 10.0
"""Seconds from a request's first byte, or from connecting, to its last byte."""
WRITE_S = 10.0
"""Seconds that a client may leave an answer unread."""
IDLE_S = 60.0
"""Seconds without a byte from the client, whatever it waits for."""
CHECK_S = 1.0
"""Seconds between looks at a connection's limits."""
MAX_HEAD_BYTES = 65_536
"""Of a request line and headers that come in more than one piece; one piece is no longer than a read."""
MAX_HEADERS = 128
MAX_LENGTH_DIGITS = 20
"""Python refuses to read integers of thousands of digits, leading zeros included."""
ONCE = {b"authorization", b"content-length", b"content-type", b"host", b"transfer-encoding", b"x-api-key"}
"""Headers that two readers could understand differently when they come twice."""
UPGRADE = re.compile(rb"\r\nupgrade(?=[ \t]*:)", re.IGNORECASE)


def without_upgrade(data: bytes) -> bytes:
    r"""Rename ``Upgrade`` in the head that ``data`` begins with.

    Java's client asks for HTTP/2 in this way, with a body, and takes a no; httptools would read that body as another request.

    >>> without_upgrade(b"GET / HTTP/1.1\r\nUPGRADE: h2c\r\n\r\n")
    b'GET / HTTP/1.1\r\nX-Not-Upgraded: h2c\r\n\r\n'
    """
    head, end, body = data.partition(b"\r\n\r\n")
    return UPGRADE.sub(b"\r\nX-Not-Upgraded", head) + end + body


class GuardedProtocol(HttpToolsProtocol):
    """Closes connections that are too slow and refuses heads that a proxy in front could read as another request.

    uvicorn answers 400 to what a parser callback raises, and closes the connection.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._request_since: float | None = None
        self._unread_since: float | None = None
        self._received_at = 0.0
        self._is_in_body = False
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the connection's clock: its first request is due."""
        self._clock = asyncio.get_running_loop()
        self._peer = JoinedWrites(transport, self._clock)
        super().connection_made(self._peer)
        self._request_since = self._received_at = self._clock.time()
        self._next_check = self._clock.call_later(CHECK_S, self._check_limits)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the connection's clock."""
        self._next_check.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, unless it makes the head too long."""
        self._received_at = self._clock.time()
        if not self._is_in_body:
            if self._request_since is None:
                self._request_since = self._received_at
            if b"upgrade" in data[: data.find(b"\r\n\r\n")].lower():
                data = without_upgrade(data)
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > MAX_HEAD_BYTES and not self._peer.is_closing():
            self.send_400_response("The head of the request is too long.")

    def pause_writing(self) -> None:
        """Note that the client does not read."""
        self._unread_since = self._clock.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """Note that the client reads again."""
        self._unread_since = None
        super().resume_writing()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, unless there are too many; leave out trailers, which come behind the body."""
        if self._is_in_body:
            return
        super().on_header(name, value)
        if len(self.headers) > MAX_HEADERS:
            raise ValueError("too many headers")

    def on_headers_complete(self) -> None:
        """Refuse a body whose end two readers could see in different places."""
        named = [(name, value) for name, value in self.headers if name in ONCE]
        once = dict(named)
        if len(once) < len(named):
            raise ValueError("a doubled header")
        length, coding = once.get(b"content-length"), once.get(b"transfer-encoding")
        if coding is not None and (length is not None or coding.strip().lower() != b"chunked"):
            raise ValueError("contradictory headers, or a body in another coding")
        if length is not None and len(length) > MAX_LENGTH_DIGITS:
            raise ValueError("a length of too many digits")
        if (length or coding) and self.parser.should_upgrade():
            raise ValueError("an upgrade with a body, which the parser would read as another request")
        self._is_in_body, self._head_bytes = True, 0
        super().on_headers_complete()
        self.cycle.body = b""  # type: ignore[assignment]  # not a bytearray: a body in one piece is not copied twice

    def on_message_complete(self) -> None:
        """Note that the request is whole."""
        self._is_in_body, self._head_bytes, self._request_since = False, 0, None
        super().on_message_complete()

    def _check_limits(self) -> None:
        now = self._clock.time()
        if self._unread_since is not None and now - self._unread_since > WRITE_S:
            self._peer.abort()
        elif (self._request_since or now) < now - REQUEST_S or self._received_at < now - IDLE_S:
            self._peer.close()
        else:
            self._next_check = self._clock.call_later(CHECK_S, self._check_limits)
