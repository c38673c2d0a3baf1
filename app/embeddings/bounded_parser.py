"""hiredis behind a check of what a reply announces: it would make a list of two billion places before the first has come."""

from __future__ import annotations

import re
from typing import Any

import hiredis
from redis.asyncio.connection import Connection, DefaultParser
from redis.exceptions import InvalidResponse

# Ten million elements or bytes and more. A row's bytes look like this once in 10^10 replies, and are then a miss.
GIANT = re.compile(rb"[*$~%>=][0-9]{8,}")
LONGEST_START = 8


class BoundedReader:
    """A `hiredis.Reader` that refuses replies of giant length."""

    def __init__(self, reader: hiredis.Reader) -> None:
        self._reader = reader
        self._tail = b""
        self.gets = reader.gets
        self.has_data = reader.has_data

    def feed(self, data: bytes) -> None:
        """Take what the socket gave.

        Raises:
            InvalidResponse: it announces more than any reply of ours has.
        """
        seen = self._tail + data
        if GIANT.search(seen):
            raise InvalidResponse("a reply of giant length")
        self._tail = seen[-LONGEST_START:]
        self._reader.feed(data)


class BoundedParser(DefaultParser):  # type: ignore[valid-type, misc]
    """The client's own parser, on a `BoundedReader`."""

    def on_connect(self, connection: Connection) -> None:
        """Begin with a new connection."""
        super().on_connect(connection)
        self._reader: Any = BoundedReader(self._reader)
