from collections.abc import Sequence

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pytest
from hypothesis import given

from models.data.token_index import TokenIndex
from models.features.token_spelling import MAX_TOKEN_CHARS, spell

letters = st.characters(exclude_categories=["Cs"])
# Views hold up to 12 bytes inline; tokens longer than 240 bytes are hashed in pieces.
long_tokens = st.builds(str.__mul__, st.text(letters, min_size=1, max_size=2), st.sampled_from([5, 13, 70, 300]))
tokens = st.none() | st.text(letters, max_size=3) | st.text(letters, min_size=4, max_size=16) | long_tokens


@pytest.fixture(params=["compiled", "Python"], autouse=True)
def numbering(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "Python":
        monkeypatch.setattr("models.data.token_index.Numbering", None)
    else:
        pytest.importorskip("models._native", reason="built without a C compiler")


def expected_codes(columns: Sequence[Sequence[str | None]]) -> list[list[int]]:
    known: dict[str, int] = {}
    return [[0 if t is None else known.setdefault(t, len(known) + 1) for t in column] for column in columns]


def codes(index: TokenIndex, column: Sequence[str | None]) -> list[int]:
    found: list[int] = index.codes(pl.Series(column, dtype=pl.String)).tolist()
    return found


@given(st.lists(st.lists(tokens, max_size=12), max_size=5))
def test_tokens_are_numbered_in_order_of_first_appearance(columns: list[list[str | None]]) -> None:
    index = TokenIndex()
    columns = [[t and spell(t) for t in column if t is None or len(t) <= MAX_TOKEN_CHARS] for column in columns]
    assert [codes(index, column) for column in columns] == expected_codes(columns)


spellings = st.sampled_from(
    ["1", "1.0", "1.00", "-0", "0", "0.0", "True", "true", "TRUE", "01.0", "1.50", "-7.0", "-7", "x"]
)


@given(st.lists(st.lists(st.none() | spellings, max_size=6), max_size=5))
def test_tokens_have_the_code_of_their_spelling(columns: list[list[str | None]]) -> None:
    index = TokenIndex()
    written = [t for column in columns for t in column]
    found = [code for column in columns for code in codes(index, column)]
    assert [None if code == 0 else index.tokens(np.array([code]))[0] for code in found] == [
        t and spell(t) for t in written
    ]
    assert index.find(pl.Series(written, dtype=pl.String)).tolist() == found


@given(st.lists(tokens, max_size=12), st.lists(tokens, max_size=12))
def test_find_returns_known_codes_and_adds_none(known: list[str | None], asked: list[str | None]) -> None:
    index = TokenIndex()
    by_token = {t: code for t, code in zip(known, codes(index, known), strict=True) if t is not None}
    assert index.tokens(np.array(list(by_token.values()), np.int64)).to_list() == list(by_token)
    found = index.find(pl.Series(asked, dtype=pl.String)).tolist()
    assert found == [0 if t is None else by_token.get(t, 0) for t in asked]
    assert len(index) == len(by_token) + 1


def test_a_column_of_several_slices_is_read_whole() -> None:
    column = ["a", None, "a token that is long", "b" * 300, "a", None, "c", "another long token", None]
    pieces = pl.concat([pl.Series(column)[3:], pl.Series(column)[:5], pl.Series(column)[1:8]], rechunk=False)
    assert pieces.n_chunks() == 3
    index = TokenIndex()
    assert [index.codes(pieces).tolist()] == expected_codes([pieces.to_list()])
    assert index.tokens(np.array([1, 2])).to_list() == ["b" * 300, "a"]
    assert index.codes(pl.Series(column[:3])[:0]).tolist() == []


def test_the_index_grows_over_many_columns() -> None:
    index, rng = TokenIndex(), np.random.default_rng(7)
    columns = [[f"token {i}" for i in rng.integers(0, 40_000, 9_000).tolist()] for _ in range(6)]
    assert [codes(index, column) for column in columns] == expected_codes(columns)


def test_arrays_of_another_type_or_length_are_refused() -> None:
    native = pytest.importorskip("models._native", reason="built without a C compiler")
    index, two = native.TokenIndex(), np.zeros(2, np.uint32)
    with pytest.raises(ValueError, match="column of strings"):
        index.number(pl.Series([1, 2]), two)
    with pytest.raises(ValueError, match="uint32"):
        index.number(pl.Series(["a", "b"]), np.zeros(2, np.int64))
    for n, message in ((1, "shorter"), (3, "longer")):
        with pytest.raises(ValueError, match=message):
            index.number(pl.Series(["a"] * n), two)
        with pytest.raises(ValueError, match=message):
            index.find(pl.Series(["a"] * n), two)
    with pytest.raises(AttributeError, match="__arrow_c_stream__"):
        index.number("no column", two)
