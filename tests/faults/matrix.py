"""The fault matrix: every fault, what is promised while it lasts, and the function that brings it about and looks.

``python -m tests.faults`` runs all of it and prints what came of it; pytest runs each as a test.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from tests import in_process
from tests.faults.load import Answers, Load, Tally
from tests.making import make_artifact, make_log, request_columns
from tests.redis_server import RedisServer, running_redis
from tests.server import Server, serving

VERSIONS = {"v1": 0, "v2": 1, "v3": 2}
"""Seed of each model version's weights."""
BUDGET_MS = 20.0
NUM_BODIES = 24


@dataclass
class Arena:
    """Where faults happen: artifacts whose right answers are known, and how long to try.

    Args:
        directory: for whatever is made on the way.
        artifacts: with versions v1, v2 and v3; ``current`` names v1.
        bodies: of requests.
        answers: the right bytes for each body, by version: what a service gave that nothing happened to.
        scale: 1 in tests; more makes the trials longer.
    """

    directory: Path
    artifacts: Path
    bodies: list[bytes]
    answers: Answers
    scale: int = 1
    stack: ExitStack = field(default_factory=ExitStack)
    tally: Tally = field(default_factory=Tally)

    @contextmanager
    def serve(self, *, ready: bool = True, **settings: object) -> Iterator[Server]:
        """Start a service on the artifacts, with settings that tests want."""
        with serving(self.artifacts, ready=ready, **settings) as server:  # type: ignore[arg-type]
            yield server

    @contextmanager
    def serve_with_redis(self, url: str | None = None, **settings: object) -> Iterator[tuple[Server, RedisServer]]:
        """Start Redis and a service that asks it for every row; ``url`` when the service is to take a detour."""
        with running_redis(self.directory / "redis") as redis:
            options: dict[str, object] = {"redis_url": url or redis.url, "redis_timeout_ms": BUDGET_MS, "hot_bytes": 0}
            with serving(self.artifacts, **(options | settings)) as server:  # type: ignore[arg-type]
                yield server, redis

    @contextmanager
    def load(self, server: Server, rate_rps: float = 200.0, **options: Any) -> Iterator[Load]:
        """Ask at a fixed rate for as long as the block lasts; every answer is compared with the right one."""
        load = Load(str(server.client.base_url), self.bodies, self.answers, rate_rps, **options)
        with load:
            yield load
        self.tally += load.tally

    def ask(self, server: Server, i: int = 0) -> bytes:
        """Ask once and compare."""
        answer = server.client.post("/predict", content=self.bodies[i], headers=JSON)
        self.tally.note(
            answer.status_code, 200, answer.elapsed.total_seconds(), self.answers.is_right(i, answer.content)
        )
        return answer.content


JSON = {"content-type": "application/json"}


@dataclass(frozen=True)
class Fault:
    """One row of the matrix."""

    id: str
    what: str
    promise: str
    run: Callable[[Arena], None]


FAULTS: list[Fault] = []


def fault(name: str, what: str, promise: str) -> Callable[[Callable[[Arena], None]], Callable[[Arena], None]]:
    """Enter a function into the matrix; it fails by an assertion, and the arena's tally holds what it saw."""

    def enter(run: Callable[[Arena], None]) -> Callable[[Arena], None]:
        FAULTS.append(Fault(name, what, promise, run))
        return run

    return enter


def make_arena(directory: Path, scale: int = 1) -> Arena:
    """Write the artifacts and learn the right answers from an app that is left in peace."""
    artifacts = directory / "artifacts"
    frame = make_log()
    bodies = [orjson.dumps({"inputs": request_columns(frame[i * 5 : i * 5 + 1 + i % 7])}) for i in range(NUM_BODIES)]
    answers = Answers()
    for version, seed in VERSIONS.items():
        make_artifact(artifacts, version, seed)
        for i, answer in enumerate(asyncio.run(in_process.answers(artifacts, bodies))):
            answers.learn(i, answer)
    return Arena(directory, artifacts, bodies, answers, scale)
