from collections.abc import Sequence

import hypothesis.strategies as st
import numpy as np
import pytest
import xxhash
from hypothesis import given
from numpy.typing import NDArray

from models.errors import ArtifactError
from models.features import vocabulary as module
from models.features.vocabulary import NUM_SPECIAL, OOV, HashedVocabulary, Vocabulary

# UTF-8 has no lone surrogates; every other string is a possible token.
tokens = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.lists(tokens, unique=True, max_size=50), st.lists(tokens, max_size=20))
def test_every_token_finds_its_own_id_and_others_find_oov(known: list[str], asked: list[str]) -> None:
    vocabulary = Vocabulary.from_tokens(known)
    oracle = {token: NUM_SPECIAL + i for i, token in enumerate(known)}
    assert vocabulary.find_all(known + asked).tolist() == [oracle.get(t, OOV) for t in known + asked]
    assert vocabulary.tokens() == known
    assert [vocabulary.token(NUM_SPECIAL + i) for i in range(len(known))] == known


@given(st.data())
def test_tokens_whose_hashes_are_equal_are_told_apart_by_their_bytes(data: st.DataObject) -> None:
    names = data.draw(st.lists(st.text("abé", max_size=3), unique=True, min_size=1, max_size=6))
    asked = data.draw(st.lists(st.text("abé", max_size=3) | st.sampled_from(names), max_size=8))
    with pytest.MonkeyPatch.context() as patch:
        vocabulary = Vocabulary.from_tokens(names)
        own = vocabulary.hashes.copy()
        shared = dict(zip([t.encode() for t in asked if t not in names], own.repeat(9), strict=False))
        patch.setattr(module, "_hash_all", lambda text, ends: hash_slowly(text, ends, shared))
        expected = [NUM_SPECIAL + names.index(t) if t in names else OOV for t in asked]
        assert vocabulary.find_all(asked).tolist() == expected


def hash_slowly(text: NDArray[np.uint8], ends: NDArray[np.int64], other: dict[bytes, np.uint64]) -> NDArray[np.uint64]:
    parts = [text[a:b].tobytes() for a, b in zip([0, *ends[:-1]], ends, strict=True)]
    return np.array([other.get(part, np.uint64(xxhash.xxh3_64_intdigest(part, 0))) for part in parts], np.uint64)


def test_hashed_ids_are_pinned() -> None:
    vocabulary = HashedVocabulary(2**20)
    names = ["", "1", "ad_17", "мир", "日本"]
    assert vocabulary.find_all(names).tolist() == [
        NUM_SPECIAL + xxhash.xxh3_64_intdigest(t.encode(), 0) % 2**20 for t in names
    ]
    assert vocabulary.find_all(["ad_17"]).tolist() == [451341]


@pytest.mark.parametrize("is_compiled", [True, False])
def test_hashes_are_those_of_the_xxhash_package(is_compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if is_compiled:
        pytest.importorskip("models._native", reason="built without a C compiler")
    else:
        monkeypatch.setattr(module, "IS_COMPILED", False)
    lengths = [*range(1_100), *range(1_984, 2_115), 4_096, 4_097, 65_535, 1 << 20]
    text = np.random.default_rng(0).integers(0, 256, sum(lengths), np.uint8)
    ends = np.cumsum(lengths)
    hashes = module._hash_all(text, ends)
    starts: Sequence[int] = (ends - lengths).tolist()
    assert hashes.tolist() == [
        xxhash.xxh3_64_intdigest(text[a:b].tobytes(), 0) for a, b in zip(starts, ends.tolist(), strict=True)
    ]


@pytest.mark.parametrize(
    "damage",
    [
        {"positions": np.array([0, 2])},
        {"positions": np.array([-1, 0])},
        {"ends": np.array([2, 1])},
        {"ends": np.array([1, 3])},
        {"ends": np.array([1])},
        {"hashes": np.array([5, 5], np.uint64)},
        {"hashes": np.array([], np.uint64)},
    ],
    ids=str,
)
def test_arrays_that_could_lead_out_of_the_table_are_refused(damage: dict[str, np.ndarray]) -> None:
    good = Vocabulary.from_tokens(["a", "b"])
    good.check("field", 2)
    with pytest.raises(ArtifactError, match="field"):
        Vocabulary({**good.arrays, **damage}).check("field", 2)
