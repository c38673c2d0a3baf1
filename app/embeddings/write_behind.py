"""Writes rows that Redis did not have into it, in the background."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from redis.asyncio import Redis

from app.embeddings.redis_pipeline import send_commands
from app.embeddings.row_codec import RowCodec
from app.embeddings.state_log import StateLog, describe
from app.observability.metrics import Telemetry

MAX_QUEUED = 8_192  # rows; the oldest are dropped
MAX_BATCH = 64  # rows a pipeline: small, for the loop serves requests in between
TTL_JITTER = 0.1
PAUSE_WHEN_LOST_S = 1.0
PAUSE_WHEN_REFUSED_S = 5.0


class WriteBehind:
    """A bounded queue of rows and the task that SETs them.

    Writing pauses for a while when the server refuses it (out of memory, a read-only replica, no permission); reading
    goes on.

    Args:
        client: the connection pool.
        ttl_s: seconds until a row expires, ±10 % so that rows written together do not expire together.
        telemetry: counts ok, error and dropped.
        clock: seconds, never going back.
        rng: for the jitter.
        log: gets a line when writing pauses and when it goes on.
    """

    def __init__(
        self,
        client: Redis,
        ttl_s: float,
        telemetry: Telemetry,
        clock: Callable[[], float],
        rng: random.Random,
        log: StateLog,
    ) -> None:
        self._client = client
        self._ttl_ms = ttl_s * 1000
        self._num_ok, self._num_failed, self._num_dropped = (
            telemetry.redis_writes.labels(outcome) for outcome in ("ok", "error", "dropped")
        )
        self._clock = clock
        self._rng = rng
        self._log = log
        self._queue: OrderedDict[bytes, bytes] = OrderedDict()
        self._wake = asyncio.Event()
        self._paused_until: float | None = None

    def put(self, codec: RowCodec, ids: NDArray[np.int64], rows: NDArray[np.float32]) -> None:
        """Queue rows float32 [n, D] to be written, apart from those that are queued already."""
        if self._paused_until is not None and self._clock() < self._paused_until:
            self._num_dropped.inc(len(ids))
            return
        keys = codec.keys(ids)
        fresh = [i for i, key in enumerate(keys) if key not in self._queue]
        num_over = max(0, len(self._queue) + len(fresh) - MAX_QUEUED)
        for _ in range(min(num_over, len(self._queue))):
            self._queue.popitem(last=False)
        fresh = fresh[-MAX_QUEUED:]
        self._queue.update(
            zip([keys[i] for i in fresh], codec.encode(ids.take(fresh), rows.take(fresh, axis=0)), strict=True)
        )
        self._num_dropped.inc(num_over)
        self._wake.set()

    async def run(self) -> None:
        """Write what is queued, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                await self._write([self._queue.popitem(last=False) for _ in range(min(MAX_BATCH, len(self._queue)))])

    async def _write(self, batch: Sequence[tuple[bytes, bytes]]) -> None:
        low, spread, random = self._ttl_ms * (1 - TTL_JITTER), self._ttl_ms * 2 * TTL_JITTER, self._rng.random
        commands = [(b"SET", key, value, b"PX", b"%d" % max(1, int(low + spread * random()))) for key, value in batch]
        try:
            replies = await send_commands(self._client, commands)
        except Exception as error:  # noqa: BLE001  # a row that is not written is a miss the next time
            self._num_failed.inc(len(batch))
            self._pause(error, PAUSE_WHEN_LOST_S)
            return
        num_ok = sum(reply == b"OK" for reply in replies)
        self._num_ok.inc(num_ok)
        self._num_failed.inc(len(batch) - num_ok)
        if num_ok < len(batch):
            self._pause(next(reply for reply in replies if reply != b"OK"), PAUSE_WHEN_REFUSED_S)
        elif self._paused_until is not None:
            self._paused_until = None
            self._log.say(logging.INFO, "Redis takes writes again")

    def _pause(self, reason: object, pause_s: float) -> None:
        if self._paused_until is None:
            self._log.say(logging.WARNING, f"Redis takes no writes ({describe(reason)}); reading goes on")
        self._paused_until = self._clock() + pause_s
        self._num_dropped.inc(len(self._queue))
        self._queue.clear()
