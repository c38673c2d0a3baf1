"""A transport that writes an answer's head and body in one piece.

uvicorn writes an answer's head and its body apart, and each packet wakes the client.
"""

from __future__ import annotations

import asyncio
from typing import Any

MAX_HELD_BYTES = 4_096
"""An answer's head is shorter; more is written at once."""


class JoinedWrites(asyncio.Transport):
    """A connection's transport that holds a short write back for the next one.

    Args:
        transport: of the connection.
        loop: that the transport belongs to.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop
        self._transport = transport
        self._parts: list[bytes] = []
        self.get_extra_info = transport.get_extra_info  # type: ignore[method-assign]
        self.is_closing = transport.is_closing  # type: ignore[method-assign]
        self.pause_reading = transport.pause_reading  # type: ignore[method-assign]
        self.resume_reading = transport.resume_reading  # type: ignore[method-assign]

    def write(self, data: Any) -> None:
        """Write together with what is written next in this turn of the loop, or else at its end."""
        self._parts.append(data)
        if len(self._parts) == 1 and len(data) <= MAX_HELD_BYTES:
            self._loop.call_soon(self._flush)
        else:
            self._flush()

    def close(self) -> None:
        """Close when all has been written."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._parts.clear()
        self._transport.abort()

    def _flush(self) -> None:
        parts, self._parts = self._parts, []
        if parts and not self._transport.is_closing():
            self._transport.write(b"".join(parts))
