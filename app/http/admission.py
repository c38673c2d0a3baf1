"""How much work may wait: beyond it a request is refused at once, before anything is done for it.

With an unbounded queue an overloaded service answers everybody too late. Work is counted in bytes of bodies, since a
request of a thousand rows is a thousand times the work of one; they are known before the body is read, but of a chunked
body, which is counted as it comes.
"""

from __future__ import annotations

from app.observability.metrics import Telemetry


class Gate:
    """Counts the scored requests that are being answered or wait for their turn; one a process.

    Args:
        max_requests: most of them.
        max_bytes: most bytes of their bodies; a single request is let in whatever its size.
        max_body_bytes: longer bodies will be refused unread, and so count for nothing.
        telemetry: counts refusals.
    """

    def __init__(self, max_requests: int, max_bytes: int, max_body_bytes: int, telemetry: Telemetry) -> None:
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._max_body_bytes = max_body_bytes
        self._shed = telemetry.shed.labels("overloaded").inc
        self.num_requests = 0
        self.num_bytes = 0

    def enter(self, num_bytes: int) -> bool:
        """Let a request in, or count its refusal; return which."""
        if num_bytes > self._max_body_bytes:
            num_bytes = 0
        if self.num_requests and (
            self.num_requests >= self._max_requests or self.num_bytes + num_bytes > self._max_bytes
        ):
            self._shed()
            return False
        self.num_requests += 1
        self.num_bytes += num_bytes
        return True

    def grow(self, num_bytes: int) -> bool:
        """Count more bytes of a request that was let in, or its refusal; return which."""
        if self.num_requests > 1 and self.num_bytes + num_bytes > self._max_bytes:
            self._shed()
            return False
        self.num_bytes += num_bytes
        return True

    def leave(self, num_bytes: int, num_grown: int = 0) -> None:
        """Note that a request that was let in, and has grown since, has been answered, or given up."""
        self.num_requests -= 1
        self.num_bytes -= num_grown
        if num_bytes <= self._max_body_bytes:
            self.num_bytes -= num_bytes
