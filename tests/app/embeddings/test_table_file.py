"""Rows are taken from the table as numpy takes them, few or many."""

import numpy as np
import pytest

from app.embeddings import table_file
from app.embeddings.table_file import MANY, TableFile, take_rows
from tests.app.embeddings.making import make_table


@pytest.mark.parametrize("dim", [1, 3, 17])
@pytest.mark.parametrize("num_ids", [0, 1, MANY - 1, MANY, MANY + 1, 5 * MANY])
def test_rows_are_the_tables_own(num_ids: int, dim: int) -> None:
    table = make_table(1_000, dim)
    ids = np.random.default_rng(num_ids).integers(0, 1_000, num_ids)
    rows = TableFile(table).gather(ids)
    assert rows.shape == (num_ids, dim)
    assert rows.tobytes() == table[ids].tobytes()


@pytest.mark.parametrize("num_ids", [1, MANY])
@pytest.mark.parametrize("wrong", [1_000, 2**62])
def test_a_row_that_is_not_there_is_an_error(num_ids: int, wrong: int) -> None:
    ids = np.zeros(num_ids, np.int64)
    ids[-1] = wrong
    with pytest.raises(IndexError):
        take_rows(make_table(1_000, 3), ids)


def test_without_a_compiler_numpy_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    table, ids = make_table(1_000, 3), np.arange(MANY)
    compiled = take_rows(table, ids)
    monkeypatch.setattr(table_file, "compiled_take_rows", None)
    assert take_rows(table, ids).tobytes() == compiled.tobytes()
