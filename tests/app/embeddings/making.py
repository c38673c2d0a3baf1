"""A small table and a source over it, for the tests of this package."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.embeddings.redis_rows import RedisRows
from app.embeddings.tiers import TieredSource
from app.observability.metrics import Telemetry

DIGEST = "0123456789abcdef" * 4
DIM = 17
BLOCK_STARTS = np.array([0, 300, 310, 312], np.int64)
NUM_ROWS = 1000
DEADLINE_S = 10.0
# Where a test wants Redis to answer, a busy machine must not make it late.
PATIENT_MS = 2000.0


def make_table(num_rows: int = NUM_ROWS, dim: int = DIM, seed: int = 0) -> NDArray[np.float32]:
    """Return finite float32 [num_rows, dim] of all kinds: tiny, huge, subnormal, minus zero."""
    rng = np.random.default_rng(seed)
    table = rng.integers(0, 2**32, (num_rows, dim), np.uint32).view(np.float32)
    table[~np.isfinite(table)] = -0.0
    table.setflags(write=False)
    return table


def make_counts(block_starts: NDArray[np.int64], num_rows: int, seed: int = 0) -> NDArray[np.int64]:
    """Return counts int64 [num_rows], falling within each block after its two special rows."""
    rng = np.random.default_rng(seed)
    blocks = np.split(rng.zipf(1.5, num_rows).clip(max=10**6), block_starts[1:])
    return np.concatenate([np.append(b[:2], np.sort(b[2:])[::-1]) for b in blocks]).astype(np.int64)


@dataclass
class World:
    """A source, what is behind it, and the truth."""

    source: TieredSource
    redis: RedisRows
    telemetry: Telemetry
    table: NDArray[np.float32]

    async def check(self, ids: NDArray[np.int64]) -> None:
        """Fetch as the scorer does, and compare bit for bit with the table."""
        rows = self.source.fetch_now(ids)
        if rows is None:
            rows = await self.source.fetch(ids)
        assert rows.dtype == np.float32
        assert rows.tobytes() == self.table[ids].tobytes()

    def rows(self, tier: str) -> int:
        return sample(self.telemetry, "ctr_embedding_rows_total", tier=tier)

    def lookups(self, outcome: str) -> int:
        return sample(self.telemetry, "ctr_redis_lookups_total", outcome=outcome)

    def writes(self, outcome: str) -> int:
        return sample(self.telemetry, "ctr_redis_writes_total", outcome=outcome)

    @property
    def is_open(self) -> bool:
        return bool(sample(self.telemetry, "ctr_redis_breaker_open"))

    async def fill(self, ids: NDArray[np.int64]) -> None:
        """Fetch cold ids, and wait until they are written behind."""
        before = self.writes("ok") + self.lookups("hit")
        await self.check(ids)
        await until(lambda: self.writes("ok") + self.lookups("hit") >= before + len(ids))


def sample(telemetry: Telemetry, name: str, **labels: str) -> int:
    return int(telemetry.registry.get_sample_value(name, labels) or 0)


async def until(done: Callable[[], bool]) -> None:
    """Wait for something that the background does."""
    deadline = time.monotonic() + DEADLINE_S
    while not done():
        assert time.monotonic() < deadline, "not in time"
        await asyncio.sleep(0.005)


def make_source(
    table: NDArray[np.float32],
    telemetry: Telemetry,
    redis: RedisRows | None,
    *,
    digest: str = DIGEST,
    hot_bytes: int = 0,
) -> TieredSource:
    return TieredSource(
        table,
        block_starts=BLOCK_STARTS,
        counts=make_counts(BLOCK_STARTS, len(table)),
        hot_bytes=hot_bytes,
        table_digest=digest,
        redis=redis,
        telemetry=telemetry,
    )


@asynccontextmanager
async def open_world(url: str, timeout_ms: float = PATIENT_MS, ttl_s: float = 60) -> AsyncIterator[World]:
    """Open a source whose rows are all cold, but for the specials."""
    telemetry = Telemetry()
    table = make_table()
    redis = RedisRows(url, timeout_ms, ttl_s, telemetry)
    try:
        yield World(make_source(table, telemetry, redis), redis, telemetry, table)
    finally:
        await redis.aclose()
