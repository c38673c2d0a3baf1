"""The tiers in order: hot head, Redis if there is one, table. The rows are the table's, bit for bit, whatever Redis does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from app.embeddings.hot_rows import HotRows
from app.embeddings.redis_rows import RedisRows
from app.embeddings.row_codec import FLOAT32_MAX, Outcome, RowCodec
from app.embeddings.source import EmbeddingSource
from app.observability.metrics import Telemetry


class TieredSource(EmbeddingSource):
    """The rows of one table version.

    Args:
        table: float32 [R, D], read-only.
        block_starts: int64 [V], where each vocabulary's rows begin; see `HotRows`.
        counts: int64 [R], how often training saw each row.
        hot_bytes: room for the hot head.
        table_digest: hexadecimal; names the table's rows in Redis.
        redis: shared by all sources of the process, and closed by whoever opened it.
        telemetry: counts rows by tier, and outcomes of Redis.
        largest: the largest absolute value in the table; a row from Redis that exceeds it is corrupt.
    """

    def __init__(
        self,
        table: NDArray[np.float32],
        *,
        block_starts: NDArray[np.int64],
        counts: NDArray[np.int64],
        hot_bytes: int,
        table_digest: str,
        redis: RedisRows | None,
        telemetry: Telemetry,
        largest: float = FLOAT32_MAX,
    ) -> None:
        self._table = table
        self._hot = HotRows(table, block_starts, counts, hot_bytes)
        self._codec = RowCodec(table_digest, table.shape[1], largest)
        self._redis = redis
        # Bound once: finding a labelled metric takes longer than a look-up.
        self._count_hot = telemetry.embedding_rows.labels("hot").inc
        self._count_redis = telemetry.embedding_rows.labels("redis").inc
        self._count_table = telemetry.embedding_rows.labels("table").inc
        self._count_outcome = [telemetry.redis_lookups.labels(outcome.name.lower()).inc for outcome in Outcome]

    def fetch_now(self, ids: NDArray[np.int64]) -> NDArray[np.float32] | None:
        """Return the rows of ``ids`` unless some have to be asked of Redis; see `EmbeddingSource`."""
        rows = self._hot.gather(ids)
        if rows is not None:
            self._count_hot(len(ids))
            return rows
        if self._redis is not None and self._redis.is_available:
            return None
        rows, cold = self._hot.split(ids)
        rows[cold] = self._table.take(ids[cold], axis=0)
        self._count_hot(len(ids) - len(cold))
        self._count_table(len(cold))
        if self._redis is not None:
            self._count_outcome[Outcome.SKIPPED](len(cold))
        return rows

    async def fetch(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the rows of ``ids``, waiting for Redis no longer than its budget; see `EmbeddingSource`."""
        redis = self._redis
        if redis is None:
            rows = self.fetch_now(ids)
            assert rows is not None  # nothing to wait for
            return rows
        rows, cold = self._hot.split(ids)
        self._count_hot(len(ids) - len(cold))
        if not len(cold):
            return rows
        asked, inverse = np.unique(ids[cold], return_inverse=True)
        found, outcomes = await redis.fetch(self._codec, asked)
        absent = np.flatnonzero(outcomes != Outcome.HIT)
        if len(absent):
            found[absent] = self._table.take(asked[absent], axis=0)
            unknown = np.flatnonzero((outcomes == Outcome.MISS) | (outcomes == Outcome.CORRUPT))
            if len(unknown):
                redis.remember(self._codec, asked[unknown], found[unknown])
        rows[cold] = found[inverse]
        self._count(np.bincount(outcomes[inverse], minlength=len(Outcome)))
        return rows

    async def aclose(self) -> None:
        """Stop asking Redis; requests that still hold this source get their rows from the table."""
        self._redis = None

    def _count(self, num_by_outcome: NDArray[np.intp]) -> None:
        """Count rows outside the hot head: each has an outcome of Redis, and all but hits came from the table."""
        for outcome in np.flatnonzero(num_by_outcome).tolist():
            self._count_outcome[outcome](int(num_by_outcome[outcome]))
        num_hits = int(num_by_outcome[Outcome.HIT])
        if num_hits:
            self._count_redis(num_hits)
        if num_hits < num_by_outcome.sum():
            self._count_table(int(num_by_outcome.sum()) - num_hits)
