"""The source without Redis: never waits, counts what it does."""

import asyncio

import numpy as np
import pytest

from app.observability.metrics import Telemetry
from tests.app.embeddings.making import BLOCK_STARTS, NUM_ROWS, make_source, make_table, sample

IDS = np.array([0, 1, 300, 301, 299, 299, 999, 5])  # the first four are special rows


def tiers(telemetry: Telemetry) -> dict[str, int]:
    return {t: sample(telemetry, "ctr_embedding_rows_total", tier=t) for t in ("hot", "redis", "table")}


@pytest.mark.parametrize(("hot_bytes", "num_hot"), [(10**6, 8), (0, 4)])
def test_without_redis_rows_come_at_once(hot_bytes: int, num_hot: int) -> None:
    table, telemetry = make_table(), Telemetry()
    source = make_source(table, telemetry, None, hot_bytes=hot_bytes)
    rows = source.fetch_now(IDS)
    assert rows is not None
    assert rows.tobytes() == table[IDS].tobytes()
    assert tiers(telemetry) == {"hot": num_hot, "redis": 0, "table": 8 - num_hot}


def test_the_waiting_path_gives_the_same_rows() -> None:
    table, telemetry = make_table(), Telemetry()
    source = make_source(table, telemetry, None)
    rows = asyncio.run(source.fetch(IDS))
    assert rows.tobytes() == table[IDS].tobytes()
    assert tiers(telemetry) == {"hot": 4, "redis": 0, "table": 4}


def test_no_ids_are_no_rows() -> None:
    source = make_source(make_table(), Telemetry(), None)
    rows = source.fetch_now(np.array([], np.int64))
    assert rows is not None
    assert rows.shape == (0, 17)


def test_every_row_of_a_half_hot_table_is_right() -> None:
    table, telemetry = make_table(), Telemetry()
    source = make_source(table, telemetry, None, hot_bytes=table.nbytes // 2)
    ids = np.random.default_rng(0).permutation(NUM_ROWS).astype(np.int64)
    rows = source.fetch_now(ids)
    assert rows is not None
    assert rows.tobytes() == table[ids].tobytes()
    assert tiers(telemetry)["hot"] >= 2 * len(BLOCK_STARTS)
    assert sum(tiers(telemetry).values()) == NUM_ROWS
