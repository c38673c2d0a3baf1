"""The service without its guards, to be compared with it: no gate, no limits on heads and times, no keys.

``bare`` leaves out what it tells of itself too: traces, and counts and times of requests.
``python -m benchmarks.unguarded PORT ARTIFACTS [bare]`` serves it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import uvicorn
from app.http.crowd import Crowd, SendAnswer
from app.http.known_head import KnownRequest
from app.http.turns import Turns
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.http.endpoint import HotPath, Together
from app.main import source_factory
from app.observability.metrics import Telemetry
from app.registry.registry import Registry
from app.registry.rollback import RollbackFile
from app.scoring.catalog import CatalogFile
from app.scoring.micro_batcher import Batcher
from app.scoring.predict import predict, predict_at_once
from app.settings import Settings

MAX_BODY_BYTES = 4 * 2**20
HEAD = b"HTTP/1.1 200 OK\r\ndate: Wed, 25 Nov 2026 20:00:00 GMT\r\ncontent-type: application/json\r\n"


class UnguardedProtocol(HttpToolsProtocol):
    """Takes what comes in one piece for a good ``/predict`` and answers it as the service does; the rest is uvicorn's."""

    service: Bare | HotPath
    crowd: Crowd | None = None
    turns: Turns | None = None
    waiting: KnownRequest | None = None
    num_waiting = 0

    def data_received(self, data: bytes) -> None:
        """Answer at once, or at the end of the turn when many come."""
        arrived = time.perf_counter()
        own = UnguardedProtocol
        if own.turns is None or own.crowd is None:
            own.turns, own.crowd = Turns(self.loop), Crowd(self.loop, own.service)
        start = data.find(b"\r\n\r\n") + 4
        if start == len(data):  # a probe, which sends its head first
            super().data_received(data)
            return
        request = KnownRequest(data, start, arrived)
        own.turns.note(arrived)
        if own.turns.is_quiet and not own.num_waiting:
            own.service.answer_at_once([request], self._send)
            own.turns.rest()
        else:
            own.num_waiting += 1
            own.crowd.join(self, request)

    def answer(self, rest: bytes) -> None:
        """Send the answer of the request that waits."""
        own, self.waiting = UnguardedProtocol, None
        own.num_waiting -= 1
        self._send(0, rest)
        if own.turns is not None and own.num_waiting == 0:
            own.turns.rest()

    def decline(self) -> None:
        """Have nothing else to offer."""
        raise NotImplementedError

    def _send(self, _: int, rest: bytes) -> None:
        self.transport.write(HEAD + rest)


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
        self._registry = Registry(
            root, open_source, settings.max_rows, CatalogFile(None), RollbackFile(None), self.telemetry
        )

    def may_wait(self) -> bool:
        """Return that there is nothing to wait for."""
        return False

    def answer_all(self, bodies: Sequence[bytes], send: SendAnswer) -> None:
        """Answer bodies."""
        assert self._registry.current is not None
        predict_at_once(self._registry.current, bodies, send, self.telemetry)

    def answer_at_once(self, requests: Sequence[KnownRequest], send: SendAnswer) -> None:
        """Answer requests with nothing but the answer."""
        self.answer_all(
            [request.body for request in requests],
            lambda place, answer: send(place, b"content-length: %d\r\n\r\n%b" % (len(answer), answer)),
        )

    async def answer_soon(self, requests: Sequence[object], send: SendAnswer) -> None:
        """Have no need of waiting."""
        raise NotImplementedError

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
    together = Together("/predict", bare.may_wait, bare.answer_all, bare.answer_soon)
    with_telling = HotPath(bare, {"/predict": bare.answer}, together, (), MAX_BODY_BYTES, bare.telemetry, None)
    app = UnguardedProtocol.service = bare if sys.argv[3:] else with_telling
    uvicorn.run(
        app,
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
