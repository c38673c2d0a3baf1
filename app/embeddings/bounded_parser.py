"""redis-py's hiredis parser, with a bound on what a reply announces.

hiredis makes a list as long as an array's announced length before the first element has come: ``*2147483647`` takes 17 GB and
seconds of the event loop. Neither redis-py nor hiredis has a setting for it, so `BoundedParser` wraps the parser's
``_reader``, which is not a public name; a test fails when a redis-py no longer uses it.
"""

from __future__ import annotations

import re
from typing import Any

import hiredis
from redis.asyncio.connection import Connection, DefaultParser
from redis.exceptions import InvalidResponse

# Ten million elements or bytes and more. A row's bytes look like this once in 10^10 replies; that reply is then a failure.
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
        """Take bytes from the socket.

        Raises:
            InvalidResponse: they announce more elements or bytes than any reply to our commands has.
        """
        seen = self._tail + data
        if GIANT.search(seen):
            raise InvalidResponse("a reply of giant length")
        self._tail = seen[-LONGEST_START:]
        self._reader.feed(data)


class BoundedParser(DefaultParser):  # type: ignore[valid-type, misc]
    """redis-py's parser on a `BoundedReader`."""

    def on_connect(self, connection: Connection) -> None:
        """Begin with a new connection."""
        super().on_connect(connection)
        self._reader: Any = BoundedReader(self._reader)
