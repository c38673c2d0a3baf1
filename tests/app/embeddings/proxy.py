"""A proxy between the client and a real server that delays, cuts, silences or replaces what the server says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path


class Proxy:
    """Forwards a unix socket to another one; set its attributes at any time, `pass_all` for a perfect line.

    Attributes:
        delay_s: each piece of a reply is held back for so long.
        cut_after: bytes of replies until the connection is cut.
        garbage: sent in place of each piece of a reply.
        is_silent: replies are swallowed.
        num_connections: how many connections clients have opened.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self.num_connections = 0
        self.pass_all()

    def pass_all(self) -> None:
        self.delay_s = 0.0
        self.cut_after: int | None = None
        self.garbage: bytes | None = None
        self.is_silent = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        async with closing(writer):
            server_reader, server_writer = await asyncio.open_unix_connection(self._target)
            async with closing(server_writer):
                up = asyncio.create_task(self._forward(reader, server_writer, is_reply=False))
                down = asyncio.create_task(self._forward(server_reader, writer, is_reply=True))
                try:
                    await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    up.cancel()
                    down.cancel()
                    await asyncio.gather(up, down, return_exceptions=True)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_reply: bool) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                if is_reply:
                    await asyncio.sleep(self.delay_s)
                    data = self._changed(data)
                writer.write(data)
                await writer.drain()
                if self.cut_after == 0 and is_reply:
                    return

    def _changed(self, data: bytes) -> bytes:
        if self.is_silent:
            return b""
        if self.garbage is not None:
            return self.garbage
        if self.cut_after is not None:
            data = data[: self.cut_after]
            self.cut_after -= len(data)
        return data


@asynccontextmanager
async def closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    try:
        yield
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


@asynccontextmanager
async def open_proxy(server_url: str, directory: Path) -> AsyncIterator[tuple[Proxy, str]]:
    """Listen in front of a server; yields the proxy and its url."""
    proxy = Proxy(server_url.removeprefix("unix://"))
    path = directory / "proxy.sock"
    connections: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(proxy.serve(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    listener = await asyncio.start_unix_server(accept, path)
    try:
        yield proxy, f"unix://{path}"
    finally:
        listener.close()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
