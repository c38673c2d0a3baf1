"""The service without its guards, to be compared with it: no gate, no limits on heads and times, no keys.

``bare`` leaves out what it tells of itself too: traces, and counts and times of requests.
``python -m benchmarks.unguarded PORT ARTIFACTS [bare]`` serves it.
"""

from __future__ import annotations

import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, cast

import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.batcher import Batcher
from app.gate import Gate
from app.hot_path import HotPath
from app.http_exchange import Exchange, Outbox
from app.main import source_factory
from app.orders import OrderFile
from app.registry import Registry
from app.scorer import predict
from app.settings import Settings
from app.telemetry import Telemetry

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

MAX_BODY_BYTES = 4 * 2**20


class UnguardedProtocol(HttpToolsProtocol):
    """uvicorn's own protocol, which takes bodies and sends answers as the service does: that is no guard."""

    telemetry = Telemetry()
    gate = Gate(1, 1, 1, telemetry)
    outbox: Outbox | None = None
    parts: list[bytes]

    def on_headers_complete(self) -> None:
        """Begin a body."""
        self.parts = []
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Keep a part of it."""
        self.parts.append(body)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        outbox = UnguardedProtocol.outbox = UnguardedProtocol.outbox or Outbox(self.loop)
        self.gate.num_requests = len(self.tasks) + 1
        exchange = Exchange(cycle, self.gate, outbox, self.parts, is_chunked=False)
        task = self.loop.create_task(
            cast("Coroutine[None, None, None]", app(cycle.scope, exchange.receive, exchange.send))
        )
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


class Bare:
    """Answers whatever comes as if it were a good ``/predict``.

    Args:
        root: directory of artifacts.
    """

    def __init__(self, root: Path) -> None:
        self.telemetry = Telemetry()
        self._batcher = Batcher()
        settings = Settings(artifacts=root)
        open_source = source_factory(settings, self.telemetry, None)
        self._registry = Registry(root, open_source, settings.max_rows, lambda _: None, OrderFile(None), self.telemetry)

    async def answer(self, body: bytes) -> bytes:
        """Answer a body."""
        assert self._registry.current is not None
        return await predict(self._registry.current, body, self._batcher, self.telemetry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await receive()
            await self._registry.refresh()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        answer = await self.answer(body)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


def main() -> None:
    """Serve on a port of 127.0.0.1."""
    bare = Bare(Path(sys.argv[2]))
    with_telling = HotPath(bare, {"/predict": bare.answer}, None, (), MAX_BODY_BYTES, bare.telemetry, None)
    uvicorn.run(
        bare if sys.argv[3:] else with_telling,
        port=int(sys.argv[1]),
        loop="uvloop",
        proxy_headers=False,
        http=UnguardedProtocol,
        ws="none",
        access_log=False,
        server_header=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
