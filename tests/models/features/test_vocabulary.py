import hypothesis.strategies as st
import numpy as np
import pytest
import xxhash
from hypothesis import given

from models.errors import ArtifactError
from models.features.vocabulary import NUM_SPECIAL, OOV, HashedVocabulary, Vocabulary

# UTF-8 has no lone surrogates; every other string is a possible token.
tokens = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.lists(tokens, unique=True, max_size=50), st.lists(tokens, max_size=20))
def test_every_token_finds_its_own_id_and_others_find_oov(known: list[str], asked: list[str]) -> None:
    vocabulary = Vocabulary.from_tokens(known)
    oracle = {token: NUM_SPECIAL + i for i, token in enumerate(known)}
    assert [vocabulary.find(t) for t in known + asked] == [oracle.get(t, OOV) for t in known + asked]
    assert vocabulary.tokens() == known
    assert [vocabulary.token(NUM_SPECIAL + i) for i in range(len(known))] == known


def test_a_token_whose_hash_is_known_but_whose_bytes_differ_is_oov() -> None:
    vocabulary = Vocabulary.from_tokens(["a"])
    vocabulary.hashes[0] = xxhash.xxh3_64_intdigest(b"b")
    assert vocabulary.find("b") == OOV


def test_hashed_ids_are_pinned() -> None:
    vocabulary = HashedVocabulary(2**20)
    assert [vocabulary.find(t) for t in ("", "1", "ad_17", "мир", "日本")] == [
        NUM_SPECIAL + xxhash.xxh3_64_intdigest(t.encode(), 0) % 2**20 for t in ("", "1", "ad_17", "мир", "日本")
    ]
    assert vocabulary.find("ad_17") == 451341


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


def test_finding_many_equals_finding_each_even_when_hashes_collide(monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary = Vocabulary.from_tokens(["b", "", "long token", "点击"])
    tokens = ["点击", "x", "", "b", "long token", "long tokens", "b"]
    each = [vocabulary.find(token) for token in tokens]
    assert vocabulary.find_all(tokens).tolist() == each
    assert vocabulary.find_all([]).tolist() == []
    assert Vocabulary.from_tokens([]).find_all(["b"]).tolist() == [1]
    digest = xxhash.xxh3_64_intdigest
    monkeypatch.setattr(xxhash, "xxh3_64_intdigest", lambda t, seed: digest(b"b" if t == b"x" else t, seed))
    assert vocabulary.find_all(tokens).tolist() == each
