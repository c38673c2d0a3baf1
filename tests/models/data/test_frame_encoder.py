"""Frames are encoded as requests are."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.data import frame_encoder
from models.data.chunk_encoder import encode_frame
from models.data.frame_encoder import FrameEncoder, find_rows
from models.features.field_encoder import FieldEncoder
from models.features.packed_rows import join
from models.features.vocabulary import HashedVocabulary, Vocabulary
from models.schema.feature_schema import FieldSpec, FittedField
from tests.making import SCHEMA, fit_encoder, make_log

TOKENS = ["", "a", "twelve bytes", "thirteen bytes", "ä" * 40, "x" * 256, "✓"]


@pytest.mark.parametrize("token_ids", [Vocabulary.from_tokens(TOKENS), HashedVocabulary(7)], ids=["vocabulary", "hash"])
@given(tokens=st.lists(st.none() | st.sampled_from(TOKENS) | st.text(max_size=20), max_size=200))
def test_tokens_of_a_column_are_found_as_those_of_a_request(
    token_ids: Vocabulary | HashedVocabulary, tokens: list[str | None]
) -> None:
    field = FieldEncoder(FieldSpec(name="f", kind="categorical"), FittedField(dtype="string"), 11, token_ids)
    column = pl.Series(tokens, dtype=pl.String)
    assert find_rows(field, column).tolist() == field.find_all(tokens).tolist()
    sliced = pl.concat([column, column], rechunk=False)[1:]
    assert find_rows(field, sliced).tolist() == field.find_all([*tokens, *tokens][1:]).tolist()


def test_more_short_tokens_than_are_remembered_at_once_are_all_found() -> None:
    tokens = [f"t{i * i % 9_001}" for i in range(20_000)]
    vocabulary = Vocabulary.from_tokens(dict.fromkeys(tokens[::3]))
    field = FieldEncoder(FieldSpec(name="f", kind="categorical"), FittedField(dtype="string"), 0, vocabulary)
    assert find_rows(field, pl.Series(tokens)).tolist() == field.find_all(tokens).tolist()


def test_blocks_are_the_frame_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    log = make_log(1_000)
    encoder = fit_encoder(log, SCHEMA, np.arange(500))
    whole = encode_frame(encoder, log)
    monkeypatch.setattr(frame_encoder, "BLOCK_ROWS", 300)
    encoded = FrameEncoder(encoder).encode({name: log[name] for name in encoder.names})
    blocks = list(encoded.blocks())
    assert [len(block) for block in blocks] == [300, 300, 300, 100]
    joined = join(blocks)
    assert joined.lengths is not None
    assert whole.lengths is not None
    assert np.array_equal(joined.ids, whole.ids)
    assert np.array_equal(joined.lengths, whole.lengths)
    assert np.array_equal(encoded.count_special(), encoder.count_special(whole.unpack()))
    assert encoded.count_values().sum() == len(whole.ids)


@pytest.mark.parametrize(("start", "size"), [(-1, 3), (2**31 - 5, 3), (0, 2)])
def test_rows_that_do_not_fit_are_refused(start: int, size: int) -> None:
    native = pytest.importorskip("models._native", reason="built without a C compiler")
    block = native.TokenBlock(7)
    with pytest.raises(ValueError):
        block.find(pl.Series(["a", "b", "c"]), start, np.empty(size, np.int32))
    with pytest.raises(ValueError):
        block.find(pl.Series([1, 2, 3]), 0, np.empty(3, np.int32))
