from collections.abc import Sequence

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pytest
from hypothesis import given

from models.dictionary import Dictionary

tokens = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=3)


def slow_codes(columns: Sequence[Sequence[str | None]]) -> list[list[int]]:
    """Number tokens as they come, one at a time."""
    known: dict[str, int] = {}
    return [[0 if t is None else known.setdefault(t, len(known) + 1) for t in column] for column in columns]


def codes(dictionary: Dictionary, column: Sequence[str | None]) -> list[int]:
    found: list[int] = dictionary.codes(pl.Series(column, dtype=pl.String)).tolist()
    return found


@given(st.lists(st.lists(tokens, max_size=12), max_size=5))
def test_codes_number_tokens_as_they_come(columns: list[list[str | None]]) -> None:
    dictionary = Dictionary()
    assert [codes(dictionary, column) for column in columns] == slow_codes(columns)


@given(st.lists(tokens, max_size=12), st.lists(tokens, max_size=12))
def test_tokens_are_found_again_and_asking_adds_none(known: list[str | None], asked: list[str | None]) -> None:
    dictionary = Dictionary()
    oracle = {t: code for t, code in zip(known, codes(dictionary, known), strict=True) if t is not None}
    assert dictionary.tokens(np.array(list(oracle.values()), np.int64)).to_list() == list(oracle)
    some = [t for t in asked if t is not None]
    assert dictionary.find(pl.Series(some, dtype=pl.String)).tolist() == [oracle.get(t, 0) for t in some]
    assert len(dictionary) == len(oracle) + 1


def test_it_grows_over_many_columns() -> None:
    dictionary, rng = Dictionary(), np.random.default_rng(7)
    columns = [[f"token {i}" for i in rng.integers(0, 40_000, 9_000).tolist()] for _ in range(6)]
    assert [codes(dictionary, column) for column in columns] == slow_codes(columns)


def test_tokens_that_begin_at_one_place_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Dictionary, "_places", lambda self, homes: np.full(len(homes), len(self._slots) - 2))
    columns: list[list[str | None]] = [["a", "b", "a", None, "c"], ["d", "c", "b", "d", "a"]]
    dictionary = Dictionary()
    assert [codes(dictionary, column) for column in columns] == slow_codes(columns)
    assert dictionary.find(pl.Series(["x", "d"])).tolist() == [0, 4]
