"""Answers the requests of one turn of the event loop together: one look-up of rows and one matrix product for all.

The weights of the deep part do not fit the nearest caches, so a product with one row costs almost as much as with ten.
Nothing sleeps: the first request of a turn is answered at once, and the next batch is what has come by the next turn.
After some milliseconds the loop looks at its sockets, so that probes are answered and new work is refused meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from app.embeddings.source import EmbeddingSource
from app.problems import Problem

MAX_BATCH_BYTES = 65_536
"""Bodies of one batch together; a larger body is a batch of its own."""

TURN_S = 0.01
"""Seconds of work before the loop looks at its sockets again: where there is too much work, refusals must not take all its time."""

Outcome = bytes | Exception
"""A request's answer, or why there is none."""


class Scoring(Protocol):
    """A batch of requests that have been read, waiting for their table rows."""

    source: EmbeddingSource
    ids: NDArray[np.int64]
    """The table rows that are needed, int64 [N]."""

    def outcomes(self, rows: NDArray[np.float32]) -> Sequence[Outcome]:
        """Return the outcome of each request, given ``rows`` float32 [N, E+1]."""


@dataclass(frozen=True, slots=True, eq=False)
class Scorer:
    """Reads the bodies of one endpoint.

    Args:
        begin: reads a batch of bodies; one that is refused does not fail the others.
        max_requests: most bodies of a batch.
    """

    begin: Callable[[Sequence[bytes]], Scoring]
    max_requests: int


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    scorer: Scorer
    body: bytes
    deadline: float
    outcome: asyncio.Future[bytes]


class MicroBatcher:
    """The queue of scored requests; one a process."""

    def __init__(self) -> None:
        self._queue: deque[_Waiting] = deque()
        self._is_scheduled = False
        self._tasks: set[asyncio.Task[None]] = set()

    def answer(self, scorer: Scorer, body: bytes, deadline: float) -> asyncio.Future[bytes]:
        """Return a future of the answer to a request.

        Args:
            scorer: of the request's endpoint.
            body: of the request.
            deadline: by `time.perf_counter`; a request whose turn comes later is not computed.

        Raises:
            Problem: ``deadline_exceeded``, or what the scorer refuses.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(scorer, body, deadline, loop.create_future())
        self._queue.append(waiting)
        if not self._is_scheduled:
            self._answer_next(loop)  # the first of a turn has nobody to wait for
        return waiting.outcome

    def _answer_next(self, loop: asyncio.AbstractEventLoop) -> None:
        until = perf_counter() + TURN_S
        batch = self._next_batch()
        self._is_scheduled = bool(batch)
        if batch:
            loop.call_soon(self._answer_next, loop)
        while batch:
            self._answer(batch)
            batch = self._next_batch() if perf_counter() < until else []

    def _next_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        num_bytes, now = 0, perf_counter()
        while self._queue:
            waiting = self._queue[0]
            num_bytes += len(waiting.body)
            is_full = len(batch) == waiting.scorer.max_requests or num_bytes > MAX_BATCH_BYTES
            if batch and (is_full or waiting.scorer is not batch[0].scorer):
                break
            self._queue.popleft()
            if now > waiting.deadline:
                _tell([waiting], [Problem("deadline_exceeded")])
            elif not waiting.outcome.done():
                batch.append(waiting)
        return batch

    def _answer(self, batch: Sequence[_Waiting]) -> None:
        try:
            scoring = batch[0].scorer.begin([waiting.body for waiting in batch])
            rows = scoring.source.fetch_now(scoring.ids)
            if rows is None:
                task = asyncio.get_running_loop().create_task(self._answer_later(batch, scoring))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                return
            _tell(batch, scoring.outcomes(rows))
        except Exception as error:  # noqa: BLE001  # it belongs to one of those who wait
            self._isolate(batch, error)

    async def _answer_later(self, batch: Sequence[_Waiting], scoring: Scoring) -> None:
        try:
            _tell(batch, scoring.outcomes(await scoring.source.fetch(scoring.ids)))
        except Exception as error:  # noqa: BLE001  # it belongs to one of those who wait
            self._isolate(batch, error)

    def _isolate(self, batch: Sequence[_Waiting], error: Exception) -> None:
        """Answer each request of a batch that failed by itself, so that only the one at fault fails."""
        if len(batch) == 1:
            _tell(batch, [error])
            return
        for waiting in batch:
            self._answer([waiting])


def _tell(batch: Sequence[_Waiting], outcomes: Sequence[Outcome]) -> None:
    for waiting, outcome in zip(batch, outcomes, strict=True):
        if waiting.outcome.done():  # its task was cancelled
            continue
        if isinstance(outcome, bytes):
            waiting.outcome.set_result(outcome)
            continue
        if isinstance(outcome, Problem):  # what it came from holds the batch's bodies, and they it, until a collection
            outcome.__traceback__ = outcome.__context__ = None
        waiting.outcome.set_exception(outcome)
