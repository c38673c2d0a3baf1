"""What the protocol adds to uvicorn's: its callbacks are called, and connections that are too slow are closed."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, ClassVar

import pytest
import uvicorn

from app.http import guarded_protocol
from app.http.guarded_protocol import GuardedProtocol

OVERRIDDEN = [name for name, value in vars(GuardedProtocol).items() if callable(value) and not name.startswith("_")]
ANSWER = b"a" * 32_000_000
RECEIVED: list[bytes] = []


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer with a body that fills the socket's buffers."""
    assert scope["type"] == "http"
    while (message := await receive()).get("more_body"):
        pass
    RECEIVED.append(message.get("body", b""))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for start in range(0, len(ANSWER), 65_536):
        await send({"type": "http.response.body", "body": ANSWER[start : start + 65_536], "more_body": True})
    await send({"type": "http.response.body"})


class Recording(GuardedProtocol):
    """Notes which of the callbacks that the guard overrides are called."""

    called: ClassVar[set[str]] = set()


def _noting(name: str) -> Callable[..., Any]:
    def call(self: Recording, *args: Any) -> Any:
        self.called.add(name)
        return getattr(GuardedProtocol, name)(self, *args)

    return call


for _name in OVERRIDDEN:
    setattr(Recording, _name, _noting(_name))


@asynccontextmanager
async def serving() -> AsyncIterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, http=Recording, lifespan="off", log_config=None, ws="none")
        server = uvicorn.Server(config)
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        task = asyncio.create_task(server.serve([listener]))
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await task


def in_loop(test: Callable[[int], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with serving() as port:
            await asyncio.wait_for(test(port), 30)

    asyncio.run(run())


REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture(autouse=True)
def _short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded_protocol, "REQUEST_S", 0.3)
    monkeypatch.setattr(guarded_protocol, "WRITE_S", 0.3)
    monkeypatch.setattr(guarded_protocol, "CHECK_S", 0.05)


def test_uvicorn_calls_every_callback_that_the_guard_needs() -> None:
    async def ask(port: int) -> None:
        Recording.called.clear()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST)
        await asyncio.sleep(0.1)  # the answer fills the buffers first
        received = 0
        while received < len(ANSWER):
            received += len(await reader.read(1 << 20))
        writer.close()
        await writer.wait_closed()
        await asyncio.sleep(0.2)
        assert set(OVERRIDDEN) == Recording.called

    in_loop(ask)


def test_a_body_in_one_piece_is_not_copied_on_its_way_to_the_app(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []

    def on_body(self: Recording, body: bytes) -> None:
        parsed.append(body)
        GuardedProtocol.on_body(self, body)

    async def ask(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST)
        await reader.read(1)  # the app has received the body
        writer.close()

    monkeypatch.setattr(Recording, "on_body", on_body, raising=False)
    RECEIVED.clear()
    in_loop(ask)
    assert RECEIVED[0] is parsed[0]


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\r\n",
        b"POST",
        REQUEST[:-10],
        REQUEST[:-1],
        REQUEST.replace(b"Content-Length: 2", b"Transfer-Encoding: chunked")[:-2],
    ],
)
def test_a_request_that_is_not_whole_in_time_is_cut_off(sent: bytes) -> None:
    async def ask(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        started = asyncio.get_running_loop().time()
        assert await reader.read() == b""
        assert asyncio.get_running_loop().time() - started > 0.25
        writer.close()

    in_loop(ask)


def test_a_client_that_does_not_read_is_cut_off_and_one_that_reads_is_not() -> None:
    async def ask(port: int) -> None:
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        deaf.setblocking(False)
        await asyncio.get_running_loop().sock_connect(deaf, ("127.0.0.1", port))
        await asyncio.get_running_loop().sock_sendall(deaf, REQUEST)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(5):
            writer.write(REQUEST)
            received = 0
            while received < len(ANSWER):
                received += len(await reader.read(1 << 20))
            await asyncio.sleep(0.1)
        received = 0
        with suppress(ConnectionResetError):
            while part := await asyncio.get_running_loop().sock_recv(deaf, 1 << 16):
                received += len(part)
        assert received < len(ANSWER)
        deaf.close()
        writer.close()

    in_loop(ask)
