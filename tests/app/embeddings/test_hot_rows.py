"""The hot head gives the table's rows, and holds the most frequent ones that fit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.embeddings.hot_rows import HotRows
from models.network.table_rows import take_rows
from tests.app.embeddings.making import make_counts, make_table

BLOCK_SIZES = [5, 2, 40, 3, 12]
STARTS = np.cumsum([0, *BLOCK_SIZES[:-1]]).astype(np.int64)
NUM_ROWS = sum(BLOCK_SIZES)
DIM = 3
ROW_BYTES = 4 * DIM


def make_hot(num_rows_that_fit: int, counts: NDArray[np.int64] | None = None) -> tuple[HotRows, NDArray[np.float32]]:
    table = make_table(NUM_ROWS, DIM)
    counts = make_counts(STARTS, NUM_ROWS) if counts is None else counts
    return HotRows(table, STARTS, counts, num_rows_that_fit * ROW_BYTES), table


def hot_ids(hot: HotRows) -> list[int]:
    return [i for i in range(NUM_ROWS) if hot.gather(np.array([i])) is not None]


@given(
    sizes=st.lists(st.integers(2, 30), min_size=1, max_size=6),
    budget=st.integers(0, 200),
    picks=st.lists(st.floats(0, 1, exclude_max=True), max_size=40),
    seed=st.integers(0, 1000),
)
def test_rows_are_those_of_plain_indexing(sizes: list[int], budget: int, picks: list[float], seed: int) -> None:
    starts = np.cumsum([0, *sizes[:-1]]).astype(np.int64)
    table = make_table(sum(sizes), DIM, seed)
    hot = HotRows(table, starts, make_counts(starts, sum(sizes), seed), budget * ROW_BYTES)
    ids = np.array([int(p * sum(sizes)) for p in picks], np.int64)

    rows, cold = hot.split(ids)
    rows[cold] = table[ids[cold]]
    assert rows.tobytes() == table[ids].tobytes()

    gathered = hot.gather(ids)
    assert (gathered is None) == bool(len(cold))
    assert gathered is None or gathered.tobytes() == table[ids].tobytes()


@given(budget=st.integers(0, NUM_ROWS), seed=st.integers(0, 1000))
def test_all_blocks_are_cut_at_one_count_and_the_next_lower_one_would_not_fit(budget: int, seed: int) -> None:
    counts = make_counts(STARTS, NUM_ROWS, seed)
    hot, _ = make_hot(budget, counts)
    is_special = np.isin(np.arange(NUM_ROWS), np.concatenate([STARTS, STARTS + 1]))
    is_hot = np.isin(np.arange(NUM_ROWS), hot_ids(hot))

    assert hot.num_rows == is_hot.sum() <= max(budget, is_special.sum())
    assert is_hot[is_special].all()
    cold, warm = counts[~is_hot & ~is_special], counts[is_hot & ~is_special]
    if len(cold):
        assert cold.max() < warm.min(initial=2**62)
        assert (is_special | (counts >= cold.max())).sum() > budget


def test_the_whole_table_is_hot_when_it_fits() -> None:
    hot, table = make_hot(NUM_ROWS)
    assert hot.num_rows == NUM_ROWS
    ids = np.array([5, 5, 0, NUM_ROWS - 1])
    rows = hot.gather(ids)
    assert rows is not None
    assert rows.tobytes() == table[ids].tobytes()


def test_nothing_is_copied() -> None:
    table = make_table(NUM_ROWS, DIM).copy()
    hot = HotRows(table, STARTS, make_counts(STARTS, NUM_ROWS), table.nbytes)
    table[:] = 7
    rows = hot.gather(np.arange(NUM_ROWS))
    assert rows is not None
    assert (rows == 7).all()


def test_a_block_that_is_not_in_order_of_frequency_has_a_shorter_head_and_right_rows() -> None:
    counts = np.ones(NUM_ROWS, np.int64)
    counts[[3, 20]] = 1000  # behind rows that were seen once
    hot, table = make_hot(NUM_ROWS // 2, counts)
    assert 20 not in hot_ids(hot)
    rows, cold = hot.split(np.arange(NUM_ROWS))
    rows[cold] = table[cold]
    assert rows.tobytes() == table.tobytes()


@pytest.mark.parametrize("id_", [-1, NUM_ROWS])
def test_an_id_outside_the_table_is_never_hot(id_: int) -> None:
    hot, _ = make_hot(NUM_ROWS // 2)
    assert hot.gather(np.array([id_])) is None


@pytest.mark.parametrize("dim", [1, 3, 17, 40])
@pytest.mark.parametrize("num_ids", [0, 1, 15, 16, 17, 1_000])
def test_rows_taken_are_those_of_the_table(num_ids: int, dim: int) -> None:
    table, ids = make_table(100, dim), np.random.default_rng(num_ids).integers(0, 100, num_ids)
    found = take_rows(table, ids)
    assert found.shape == (num_ids, dim)
    assert found.tobytes() == table[ids].tobytes()


@pytest.mark.parametrize("wrong", [100, 2**62])
def test_a_row_that_is_not_there_is_an_error(wrong: int) -> None:
    with pytest.raises(IndexError):
        take_rows(make_table(100, 3), np.array([0, wrong]))
