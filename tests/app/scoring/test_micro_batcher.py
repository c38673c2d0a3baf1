import asyncio
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from app.scoring.micro_batcher import MAX_BATCH_ROWS, MAX_REQUEST_ROWS, PATIENCE, Batcher
from models.network.head import Pooled
from models.network.predictor import Predictor


class Doubler:
    """Scores a row by its first number, and notes how many rows each call had."""

    def __init__(self, factor: float = 2.0) -> None:
        self.factor = factor
        self.calls: list[int] = []

    def score(self, pooled: Pooled) -> NDArray[np.float64]:
        fields, ids = pooled
        np.testing.assert_array_equal(ids.astype(np.float32), fields[:, 0])
        self.calls.append(len(fields))
        if (fields[:, 0] < 0).any():
            raise ValueError("negative")
        return fields[:, 0].astype(np.float64) * self.factor


def rows(*values: int) -> Pooled:
    return Pooled(np.array(values, np.float32)[:, np.newaxis], np.array(values))


def ask(batcher: Batcher, doubler: Doubler, *values: int) -> asyncio.Task[NDArray[np.float64]]:
    return asyncio.ensure_future(batcher.probabilities(cast(Predictor, doubler), rows(*values)))


def test_a_lone_request_is_scored_at_once_and_without_waiting_for_a_turn() -> None:
    async def run() -> None:
        batcher, doubler = Batcher(), Doubler()
        coroutine = batcher.probabilities(cast(Predictor, doubler), rows(1, 2))
        with pytest.raises(StopIteration) as done:
            coroutine.send(None)
        assert done.value.value.tolist() == [2, 4]

    asyncio.run(run())


def test_concurrent_requests_are_scored_together_and_get_their_own_rows() -> None:
    async def run() -> None:
        batcher, doubler = Batcher(), Doubler()
        for _ in range(3):
            tasks = [ask(batcher, doubler, i, i + 100) for i in range(40)]
            assert [(await t).tolist() for t in tasks] == [[2 * i, 2 * i + 200] for i in range(40)]
        assert max(doubler.calls) > 2
        assert sum(doubler.calls) == 3 * 80
        assert len(doubler.calls) < 3 * 10

    asyncio.run(run())


def test_lone_requests_end_the_batching_after_a_while() -> None:
    async def run() -> None:
        batcher, doubler = Batcher(), Doubler()
        await asyncio.gather(*(ask(batcher, doubler, i) for i in range(4)))
        for _ in range(PATIENCE + 1):
            await ask(batcher, doubler, 1)
            await asyncio.sleep(0)
        coroutine = batcher.probabilities(cast(Predictor, doubler), rows(1))
        with pytest.raises(StopIteration):
            coroutine.send(None)

    asyncio.run(run())


def test_models_are_not_mixed_and_batches_are_bounded() -> None:
    async def run() -> None:
        batcher, one, other = Batcher(), Doubler(2), Doubler(3)
        many = [1] * MAX_REQUEST_ROWS
        tasks = [ask(batcher, other if i % 5 == 0 else one, *many) for i in range(40)]
        for i, task in enumerate(tasks):
            assert set((await task).tolist()) == {3.0 if i % 5 == 0 else 2.0}
        assert max(one.calls) <= MAX_BATCH_ROWS

    asyncio.run(run())


def test_large_requests_go_alone() -> None:
    async def run() -> None:
        batcher, doubler = Batcher(), Doubler()
        sizes = [MAX_REQUEST_ROWS + 1] * 3
        await asyncio.gather(*(ask(batcher, doubler, *([1] * n)) for n in sizes))
        assert doubler.calls == sizes

    asyncio.run(run())


def test_a_failure_reaches_only_who_brought_it_about_and_a_client_that_left_harms_nobody() -> None:
    async def run() -> None:
        batcher, doubler = Batcher(), Doubler()
        await asyncio.gather(*(ask(batcher, doubler, 1) for _ in range(4)))
        doubler.calls.clear()
        failing = [ask(batcher, doubler, x) for x in (1, -1, 2, 3, -2)]
        found = await asyncio.gather(*failing, return_exceptions=True)
        assert [isinstance(x, ValueError) for x in found] == [False, True, False, False, True]
        assert [x.tolist() for x in found if isinstance(x, np.ndarray)] == [[2], [4], [6]]
        assert doubler.calls == [5, 1, 1, 1, 1, 1]
        leaving, staying = ask(batcher, doubler, 1), ask(batcher, doubler, 2)
        await asyncio.sleep(0)
        leaving.cancel()
        assert (await staying).tolist() == [4]
        leaving, failing_alone = ask(batcher, doubler, -1), ask(batcher, doubler, -2)
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(ValueError, match="negative"):
            await failing_alone

    asyncio.run(run())
