"""How much work may wait, and how much memory unfinished uploads may hold.

With an unbounded queue an overloaded service answers everybody too late, so work beyond the bound is refused at once. A
body counts as work when all of it has come: who announces a body and sends nothing takes nothing from anybody.
"""

from __future__ import annotations

from app.observability.metrics import Telemetry
from app.problems import Problem


class Admission:
    """Counts the scored requests that wait or are being answered; one a process.

    Args:
        max_requests: most of them.
        max_bytes: most bytes of their bodies; a single request is let in whatever its size.
        telemetry: counts refusals.
    """

    def __init__(self, max_requests: int, max_bytes: int, telemetry: Telemetry) -> None:
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._count_refusal = telemetry.shed.labels("overloaded").inc
        self._num_requests = 0
        self._num_bytes = 0

    def check(self, num_bytes: int = 0) -> None:
        """Refuse a request with a body of ``num_bytes`` if there is no room for it now.

        Raises:
            Problem: ``overloaded``.
        """
        is_full = self._num_requests >= self._max_requests or self._num_bytes + num_bytes > self._max_bytes
        if self._num_requests and is_full:
            self._count_refusal()
            raise Problem("overloaded", retry_after_s=1)

    def enter(self, num_bytes: int) -> None:
        """Let a request with a body of ``num_bytes`` in; errors as in `check`."""
        self.check(num_bytes)
        self._num_requests += 1
        self._num_bytes += num_bytes

    def leave(self, num_bytes: int) -> None:
        """Note that a request that was let in has been answered."""
        self._num_requests -= 1
        self._num_bytes -= num_bytes


class Uploads:
    """Bodies of which a part has come. Where they hold too much memory, the one that began first is given up.

    Args:
        max_bytes: most bytes of all of them; a single one may hold more.
        telemetry: counts those given up.
    """

    def __init__(self, max_bytes: int, telemetry: Telemetry) -> None:
        self._max_bytes = max_bytes
        self._count_refusal = telemetry.shed.labels("overloaded").inc
        self._parts: dict[int, list[bytes]] = {}
        self._num_begun = 0
        self._num_bytes = 0

    def begin(self) -> int:
        """Return the number of a new upload."""
        self._num_begun += 1
        self._parts[self._num_begun] = []
        return self._num_begun

    def add(self, number: int, part: bytes) -> int:
        """Keep another part of an upload; return the bytes that have come of it.

        Raises:
            Problem: ``overloaded``: it was given up for uploads that began later.
        """
        if number in self._parts:
            self._parts[number].append(part)
            self._num_bytes += len(part)
            while self._num_bytes > self._max_bytes and len(self._parts) > 1:
                self._count_refusal()
                self.end(next(iter(self._parts)))
        if number not in self._parts:
            raise Problem("overloaded", retry_after_s=1)
        return sum(map(len, self._parts[number]))

    def body(self, number: int) -> bytes:
        """Return what has come of an upload."""
        return b"".join(self._parts[number])

    def end(self, number: int) -> None:
        """Forget an upload; forgetting it twice does nothing."""
        self._num_bytes -= sum(map(len, self._parts.pop(number, ())))
