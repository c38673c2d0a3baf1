"""A service that tells on itself: loads, scores, ranks and swaps under an audit hook, then prints what it did.

``python -m tests.hostile.watched_service ROOT VERSION…`` serves each version below ROOT in turn. A process of its own,
since an audit hook cannot be taken off again. Prints one JSON object: the events seen, and what was served.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from starlette.types import Message

from app.main import create_app
from app.settings import Settings
from models.artifact.current import set_current
from tests.hostile.corpus import GOOD, PLAIN

WATCHED = (
    "pickle.", "marshal.", "exec", "compile", "code.", "function.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn",
    "subprocess.", "socket.connect", "socket.getaddrinfo", "ctypes.", "cpython.run_", "shutil.", "glob.", "webbrowser.", "urllib.",
)  # fmt: skip
DEADLINE_S = 30.0


async def serve(root: Path, versions: list[str], on_warm: Callable[[], None]) -> dict[str, list[int | str]]:
    """Run the app's lifespan around requests to each version; return statuses, the versions served, and why not."""
    app = create_app(Settings(artifacts=root, catalog=root / "catalog.json", poll_s=0.01))
    events: asyncio.Queue[Message] = asyncio.Queue()
    answers: asyncio.Queue[Message] = asyncio.Queue()
    lifespan = asyncio.create_task(app({"type": "lifespan", "asgi": {}, "state": {}}, events.get, answers.put))
    await events.put({"type": "lifespan.startup"})
    assert (await answers.get())["type"] == "lifespan.startup.complete"
    seen: dict[str, list[int | str]] = {"statuses": [], "versions": [], "refusals": []}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        for version in versions:
            set_current(root, version)
            async with asyncio.timeout(DEADLINE_S):
                while True:
                    model = (await client.get("/model")).json()
                    refused = model["last_error"] or {}
                    if version in (model["model_version"], refused.get("version")):
                        break
                    await asyncio.sleep(0.01)
            for path, body in GOOD.items():
                method = "PUT" if path == "/catalog" else "POST"
                answer = await client.request(method, path, content=body, headers=PLAIN)
                seen["statuses"].append(answer.status_code)
            seen["versions"].append(model["model_version"])
            seen["refusals"].append(refused.get("reason", ""))
            on_warm()
    await events.put({"type": "lifespan.shutdown"})
    await lifespan
    return seen


def main() -> None:
    """Watch from when the first version has been served: until then modules are imported, and FastAPI reads annotations."""
    root, versions = Path(sys.argv[1]), sys.argv[2:]
    is_on = False
    watched: set[str] = set()
    written: set[str] = set()

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if not is_on:
            return
        if event.startswith(WATCHED):
            watched.add(f"{event} {arguments!r}"[:200])
        elif event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
            written.add(str(arguments[0]))

    def begin() -> None:
        nonlocal is_on
        is_on = True

    sys.addaudithook(watch)
    seen = asyncio.run(serve(root, versions, begin))
    is_on = False
    print(json.dumps({**seen, "watched": sorted(watched), "written": sorted(written)}))


if __name__ == "__main__":
    main()
