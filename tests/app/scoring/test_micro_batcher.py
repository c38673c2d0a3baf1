import asyncio
from collections.abc import Sequence
from time import perf_counter

import numpy as np
import pytest
from numpy.typing import NDArray

from app.embeddings.source import EmbeddingSource
from app.problems import Problem
from app.scoring.micro_batcher import MAX_BATCH_BYTES, MicroBatcher, Outcome, Scorer, Scoring

NEVER = float("inf")


class Source(EmbeddingSource):
    """Rows that are there at once, or that have to be waited for."""

    def __init__(self) -> None:
        self.has_to_wait = False
        self.gate = asyncio.Event()

    def fetch_now(self, ids: NDArray[np.int64]) -> NDArray[np.float32] | None:
        return None if self.has_to_wait else ids.astype(np.float32)[:, np.newaxis]

    async def fetch(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        await self.gate.wait()
        return ids.astype(np.float32)[:, np.newaxis]


class Doubler:
    """Doubles the number in each body, and notes the batches; refuses ``x``, fails for negative numbers."""

    def __init__(self, max_requests: int = 64) -> None:
        self.scorer = Scorer(self.begin, max_requests)
        self.source = Source()
        self.batches: list[list[bytes]] = []

    def begin(self, bodies: Sequence[bytes]) -> Scoring:
        self.batches.append(list(bodies))
        return Doubling(self, bodies)


class Doubling(Scoring):
    def __init__(self, doubler: Doubler, bodies: Sequence[bytes]) -> None:
        self.source = doubler.source
        self.bodies = bodies
        self.ids: NDArray[np.int64] = np.array([int(body) for body in bodies if body != b"x"], np.int64)

    def outcomes(self, rows: NDArray[np.float32]) -> Sequence[Outcome]:
        if (rows < 0).any():
            raise ValueError("negative")
        doubled = iter(rows[:, 0] * 2)
        return [Problem("invalid_input") if body == b"x" else b"%d" % int(next(doubled)) for body in self.bodies]


def ask(batcher: MicroBatcher, doubler: Doubler, body: bytes, deadline: float = NEVER) -> asyncio.Task[bytes]:
    async def answer() -> bytes:
        return await batcher.answer(doubler.scorer, body, deadline)

    return asyncio.create_task(answer())


async def outcomes(tasks: Sequence[asyncio.Task[bytes]]) -> list[bytes | str]:
    found = await asyncio.gather(*tasks, return_exceptions=True)
    return [f if isinstance(f, bytes) else str(f) for f in found]


def test_the_first_of_a_turn_is_answered_at_once_and_the_others_are_one_batch() -> None:
    async def run() -> None:
        batcher, doubler = MicroBatcher(), Doubler()
        assert await outcomes([ask(batcher, doubler, b"%d" % i) for i in range(40)]) == [
            b"%d" % (2 * i) for i in range(40)
        ]
        assert list(map(len, doubler.batches)) == [1, 39]
        assert await outcomes([ask(batcher, doubler, b"1")]) == [b"2"]

    asyncio.run(run())


def test_batches_are_bounded_in_requests_and_bytes_and_of_one_endpoint() -> None:
    async def run() -> None:
        batcher, one, other = MicroBatcher(), Doubler(3), Doubler(1)
        wide = b" " * MAX_BATCH_BYTES + b"7"
        asked = [(one, b"1")] * 4 + [(other, b"2")] * 2 + [(one, wide), (one, b"3"), (one, b"4")]
        found = await outcomes([ask(batcher, doubler, body) for doubler, body in asked])
        assert found == [b"2"] * 4 + [b"4"] * 2 + [b"14", b"6", b"8"]
        assert list(map(len, one.batches)) == [1, 3, 1, 2]
        assert list(map(len, other.batches)) == [1, 1]

    asyncio.run(run())


def test_the_loop_has_a_turn_when_its_time_for_batches_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.scoring.micro_batcher.TURN_S", 0.0)

    async def run() -> None:
        batcher, doubler = MicroBatcher(), Doubler(1)
        tasks = [ask(batcher, doubler, b"1") for _ in range(3)]
        seen = []
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            seen.append(len(doubler.batches))
        assert {1, 2, 3} <= set(seen)

    asyncio.run(run())


def test_a_refusal_or_a_failure_reaches_only_its_own_request() -> None:
    async def run() -> None:
        batcher, doubler = MicroBatcher(), Doubler()
        found = await outcomes([ask(batcher, doubler, body) for body in (b"1", b"x", b"-1", b"2", b"-2")])
        assert found == [b"2", "invalid_input", "negative", b"4", "negative"]

    asyncio.run(run())


def test_a_request_whose_deadline_has_passed_is_not_computed() -> None:
    async def run() -> None:
        batcher, doubler = MicroBatcher(), Doubler()
        found = await outcomes([ask(batcher, doubler, b"1", perf_counter() - 1), ask(batcher, doubler, b"2")])
        assert found == ["deadline_exceeded", b"4"]
        assert doubler.batches == [[b"2"]]

    asyncio.run(run())


def test_a_request_that_was_cancelled_harms_nobody() -> None:
    async def run() -> None:
        batcher, doubler = MicroBatcher(), Doubler()
        late = perf_counter() - 1
        leaving = [ask(batcher, doubler, b"1"), ask(batcher, doubler, b"-1"), ask(batcher, doubler, b"1", late)]
        staying = ask(batcher, doubler, b"3")
        await asyncio.sleep(0)
        for task in leaving:
            task.cancel()
        assert await staying == b"6"
        assert doubler.batches == [[b"1"], [b"3"]]  # the first of a turn is answered at once

    asyncio.run(run())


@pytest.mark.parametrize("body", [b"5", b"-5"])
def test_rows_that_have_to_be_waited_for_hold_up_nobody_else(body: bytes) -> None:
    async def run() -> None:
        batcher, slow, quick = MicroBatcher(), Doubler(), Doubler()
        slow.source.has_to_wait = True
        waiting = [ask(batcher, slow, body), ask(batcher, slow, b"6")]
        assert await outcomes([ask(batcher, quick, b"1")]) == [b"2"]
        assert not any(task.done() for task in waiting)
        slow.source.gate.set()
        assert await outcomes(waiting) == [b"10" if body == b"5" else "negative", b"12"]

    asyncio.run(run())
