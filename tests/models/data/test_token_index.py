from collections.abc import Sequence

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pytest
from hypothesis import given

from models.data.token_index import ArrayTable, TokenIndex
from models.features.vocabulary import Vocabulary

letters = st.characters(exclude_categories=["Cs"])
# Short ones repeat; those of more than twelve bytes stand elsewhere in a column; beyond 240 they are hashed piece by piece.
long_tokens = st.builds(str.__mul__, st.text(letters, min_size=1, max_size=2), st.sampled_from([5, 13, 70, 300]))
tokens = st.none() | st.text(letters, max_size=3) | st.text(letters, min_size=4, max_size=16) | long_tokens


@pytest.fixture(params=["compiled", "numpy"], autouse=True)
def table(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "numpy":
        monkeypatch.setattr("models.data.token_index.TokenTable", None)
    else:
        pytest.importorskip("models._native", reason="built without a C compiler")


def slow_codes(columns: Sequence[Sequence[str | None]]) -> list[list[int]]:
    """Number tokens as they come, one at a time."""
    known: dict[str, int] = {}
    return [[0 if t is None else known.setdefault(t, len(known) + 1) for t in column] for column in columns]


def codes(index: TokenIndex, column: Sequence[str | None]) -> list[int]:
    found: list[int] = index.codes(pl.Series(column, dtype=pl.String)).tolist()
    return found


@given(st.lists(st.lists(tokens, max_size=12), max_size=5))
def test_codes_number_tokens_as_they_come(columns: list[list[str | None]]) -> None:
    index = TokenIndex()
    assert [codes(index, column) for column in columns] == slow_codes(columns)


@given(st.lists(tokens, max_size=12), st.lists(tokens, max_size=12))
def test_tokens_are_found_again_and_asking_adds_none(known: list[str | None], asked: list[str | None]) -> None:
    index = TokenIndex()
    oracle = {t: code for t, code in zip(known, codes(index, known), strict=True) if t is not None}
    assert index.tokens(np.array(list(oracle.values()), np.int64)).to_list() == list(oracle)
    some = list(dict.fromkeys(t for t in asked if t is not None))
    assert index.find(Vocabulary.from_tokens(some)).tolist() == [oracle.get(t, 0) for t in some]
    assert len(index) == len(oracle) + 1


def test_columns_of_several_pieces_or_from_the_middle_are_read_whole() -> None:
    column: list[str | None] = [
        "a",
        None,
        "a token that is long",
        "b" * 300,
        "a",
        None,
        "c",
        "another long token",
        None,
    ]
    pieces = pl.concat([pl.Series(column)[3:], pl.Series(column)[:5], pl.Series(column)[1:8]], rechunk=False)
    assert pieces.n_chunks() == 3
    index = TokenIndex()
    assert [index.codes(pieces).tolist()] == slow_codes([pieces.to_list()])
    assert index.tokens(np.array([1, 2])).to_list() == ["b" * 300, "a"]
    assert index.codes(pl.Series(column[:3])[:0]).tolist() == []


def test_it_grows_over_many_columns() -> None:
    index, rng = TokenIndex(), np.random.default_rng(7)
    columns = [[f"token {i}" for i in rng.integers(0, 40_000, 9_000).tolist()] for _ in range(6)]
    assert [codes(index, column) for column in columns] == slow_codes(columns)


def test_tokens_that_begin_at_one_place_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.data.token_index.TokenTable", None)
    monkeypatch.setattr(ArrayTable, "_places", lambda self, homes: np.full(len(homes), len(self._slots) - 2))
    columns: list[list[str | None]] = [["a", "b", "a", None, "c"], ["d", "c", "b", "d", "a"]]
    index = TokenIndex()
    assert [codes(index, column) for column in columns] == slow_codes(columns)
    assert index.find(Vocabulary.from_tokens(["x", "d"])).tolist() == [0, 4]
