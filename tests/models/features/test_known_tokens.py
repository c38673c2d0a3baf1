"""Rows of known tokens are found again, whatever their keys are; what is kept is bounded."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

from models.features import known_tokens
from models.features.known_tokens import KnownTokens, salt_of
from models.features.vocabulary import OOV

SALTS = np.array([salt_of(0), salt_of(1)])
texts = st.lists(st.none() | st.text(max_size=2), max_size=40)
integers = st.lists(st.none() | st.integers(-3, 3) | st.integers(-(2**63), 2**64 - 1), max_size=40)


def remember(known: KnownTokens, block: int, keys: NDArray[np.int64], local_ids: list[int]) -> None:
    known.remember(block, keys, 100 * block + np.array(local_ids), np.array(local_ids))


@settings(deadline=None)
@given(texts, integers)
def test_equal_tokens_of_a_block_have_equal_keys_and_no_others(a: list[str | None], b: list[int | None]) -> None:
    keys = KnownTokens.keys([a], [b], SALTS).tolist()
    tokens = [(0, token) for token in a] + [(1, token) for token in b]
    assert len(set(keys)) == len(
        {(block, token if token is None or block == 0 else token % 2**64) for block, token in tokens}
    )
    alone = [KnownTokens.keys([[t]], [], SALTS[:1])[0] for t in a] + [
        KnownTokens.keys([], [[t]], SALTS[1:])[0] for t in b
    ]
    assert keys == alone


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 7), min_size=1, max_size=9), max_size=6))
def test_what_was_remembered_is_found_and_nothing_else(batches: list[list[int]]) -> None:
    # Keys whose highest bits are all alike or all ones, so that all meet at the same slot, or run over the end.
    for base in (5, -10):
        known, expected = KnownTokens([8]), dict[int, int]()
        for batch in batches:
            keys = base + np.array(batch)
            assert known.rows(keys).tolist() == [expected.get(key, -1) for key in keys.tolist()]
            remember(known, 0, keys, [2 + i for i in batch])
            expected |= {base + i: 2 + i for i in batch}
        every = base + np.arange(8)
        assert known.rows(every).tolist() == [expected.get(key, -1) for key in every.tolist()]


def test_of_large_blocks_the_most_frequent_tokens_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_tokens, "MAX_TOKENS", 100)
    known = KnownTokens([1_000, 10, 0])
    keys = KnownTokens.keys([[str(i) for i in range(1_000)], [str(i) for i in range(10)]], [], SALTS)
    remember(known, 0, keys[:1_000], list(range(2, 1_002)))
    remember(known, 1, keys[1_000:], list(range(2, 12)))
    found = known.rows(keys)
    assert found[:90].tolist() == list(range(2, 92))
    assert (found[90:1_000] == -1).all()
    assert found[1_000:].tolist() == list(range(102, 112))


def test_of_tokens_that_are_unseen_the_first_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_tokens, "MAX_UNSEEN", 10)
    known = KnownTokens([4])
    unseen = KnownTokens.keys([[f"new {i}" for i in range(100)]], [], SALTS[:1])
    remember(known, 0, unseen, [OOV] * 100)
    assert known.rows(unseen).tolist() == [OOV] * 10 + [-1] * 90
    keys = KnownTokens.keys([["a", "b", "c", "d", None]], [], SALTS[:1])
    remember(known, 0, keys, [2, 3, 4, 5, 0])
    assert known.rows(keys).tolist() == [2, 3, 4, 5, 0]
