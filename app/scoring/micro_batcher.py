"""Scores concurrent small requests together: one matrix product for all that the event loop has ready.

The weights of the deep part do not fit the nearest caches, so a product with one row costs almost as much as with ten.
A lone request never waits: batching begins when two requests are seen in one turn of the loop, and ends when turns hold
one each again. Nothing sleeps; a batch is what has come by the next turn.
"""

from __future__ import annotations

import asyncio

import numpy as np
from numpy.typing import NDArray

from models.network.head import Pooled
from models.network.predictor import Predictor

Waiting = tuple[Predictor, Pooled, asyncio.Future[NDArray[np.float64]]]

# A request of more rows fills the processor by itself.
MAX_REQUEST_ROWS = 32
MAX_BATCH_ROWS = 256
# Turns with one request only until lone requests are scored at once again.
PATIENCE = 64


class Batcher:
    """Shares the work of scoring pooled rows; one a process."""

    def __init__(self) -> None:
        self._is_same_turn = False
        self._patience = 0
        self._waiting: list[Waiting] = []

    async def probabilities(self, predictor: Predictor, pooled: Pooled) -> NDArray[np.float64]:
        """Return the probabilities float64 [b] of b impressions, alone or with others' rows."""
        if pooled.num_impressions > MAX_REQUEST_ROWS:
            return predictor.score(pooled)
        loop = asyncio.get_running_loop()
        if self._is_same_turn:
            self._patience = PATIENCE
        else:
            self._is_same_turn = True
            loop.call_soon(self._next_turn)
        if not self._patience:
            return predictor.score(pooled)
        future: asyncio.Future[NDArray[np.float64]] = loop.create_future()
        self._waiting.append((predictor, pooled, future))
        return await future

    def _next_turn(self) -> None:
        self._is_same_turn = False
        waiting, self._waiting = self._waiting, []
        if len(waiting) == 1:
            self._patience -= 1
        while waiting:
            predictor, num_rows, n = waiting[0][0], 0, 0
            # As many as fit that are for the same model: during a swap there may be two.
            while n < len(waiting) and waiting[n][0] is predictor and num_rows < MAX_BATCH_ROWS:
                num_rows += waiting[n][1].num_impressions
                n += 1
            self._score(predictor, waiting[:n])
            del waiting[:n]

    def _score(self, predictor: Predictor, batch: list[Waiting]) -> None:
        fields, ids = ([pooled[part] for _, pooled, _ in batch] for part in (0, 1))
        try:
            scored = predictor.score(Pooled(np.concatenate(fields), np.concatenate(ids)))
        except Exception as error:  # noqa: BLE001  # it belongs to those who wait
            if len(batch) > 1:  # to one of them, perhaps: the others must not suffer for whom they met
                for one in batch:
                    self._score(predictor, [one])
            elif not batch[0][2].done():
                batch[0][2].set_exception(error)
            return
        start = 0
        for _, pooled, future in batch:
            end = start + pooled.num_impressions
            if not future.done():  # its client may have gone
                future.set_result(scored[start:end])
            start = end
