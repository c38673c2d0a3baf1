"""Jobs that keep a worker up to date with files: keys, catalog, model. None waits for another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Self

log = logging.getLogger("ctrserve.follower")

Job = Callable[[], Awaitable[None]]


class Follower:
    """Runs named jobs every ``poll_s`` seconds, each in a task of its own, from entering the context to leaving it.

    Entering runs each job once, in order, so that the service starts with a catalog and a model where there are any. A
    job that fails is run again after ``poll_s`` seconds; the log has one line when it begins to fail, when it fails
    otherwise than before, and when it works again.

    Args:
        poll_s: seconds between the end of one run of a job and the next.
        jobs: by the name that the log gives them.
    """

    def __init__(self, poll_s: float, jobs: Mapping[str, Job]) -> None:
        self._poll_s = poll_s
        self._jobs = jobs
        self._errors: dict[str, str] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Run each job once, then begin to follow."""
        for name in self._jobs:
            await self._run(name)
        self._tasks = [asyncio.create_task(self._repeat(name)) for name in self._jobs]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Cancel the jobs and wait until they have ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _repeat(self, name: str) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            await self._run(name)

    async def _run(self, name: str) -> None:
        try:
            await self._jobs[name]()
        except Exception as error:  # whatever it was, the other jobs and the next run must not be missed for it
            if self._errors.get(name) != repr(error):
                log.exception("%s: cannot be followed", name)
            self._errors[name] = repr(error)
        else:
            if self._errors.pop(name, None) is not None:
                log.info("%s: followed again", name)
