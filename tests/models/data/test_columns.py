"""Compiled work on whole columns is that of numpy, and looks at nothing outside its arrays."""

from __future__ import annotations

import os

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pytest
import xxhash
from hypothesis import given
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

if not os.environ.get("CI"):  # there it must be
    pytest.importorskip("models._native", reason="built without a C compiler")

from models._native import TokenTable, count, hash_tokens, look_up, place
from models.data import columns
from models.data.fitting import _boundaries
from models.features.field_encoder import FieldEncoder
from models.features.vocabulary import Vocabulary
from models.schema.feature_schema import FieldSpec, FittedField

floats = st.floats(allow_infinity=True, allow_nan=True) | st.integers(-3, 3).map(float)


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans())))
def test_codes_are_counted(pairs: list[tuple[int, bool]]) -> None:
    codes, counted = np.array([c for c, _ in pairs], np.uint32), np.array([m for _, m in pairs], np.bool_)
    counts, seen = np.arange(10), np.arange(10) == 3
    expected_counts, expected_seen = counts.copy(), seen.copy()
    with pytest.MonkeyPatch.context() as patch:
        columns.count_codes(codes, counted, counts, seen)
        patch.setattr(columns, "IS_COMPILED", False)
        columns.count_codes(codes, counted, expected_counts, expected_seen)
    assert counts.tolist() == expected_counts.tolist()
    assert seen.tolist() == expected_seen.tolist()


@given(arrays(np.float64, st.integers(0, 150), elements=floats), st.integers(0, 80), st.integers(0, 2))
def test_numbers_find_their_bins(numbers: NDArray[np.float64], num_boundaries: int, first: int) -> None:
    boundaries = tuple(np.unique(np.linspace(-4, 4, num_boundaries)).tolist())
    spec = FieldSpec(name="x", kind="numeric", side="context")
    field = FieldEncoder(spec, FittedField(dtype=None, boundaries=boundaries), 0, 100, None)
    compiled, expected = (np.full(3 * len(numbers), -1, np.int32) for _ in range(2))
    with pytest.MonkeyPatch.context() as patch:
        columns.fill_bins(field, numbers, compiled, first, 3)
        patch.setattr(columns, "IS_COMPILED", False)
        columns.fill_bins(field, numbers, expected, first, 3)
    assert compiled.tolist() == expected.tolist()
    assert expected[first::3].tolist() == [field.row_of(x) for x in numbers.tolist()]


@given(st.lists(st.integers(0, 4), max_size=20), st.integers(0, 1))
def test_codes_find_their_rows(codes: list[int], first: int) -> None:
    rows, compiled, expected = np.arange(5, dtype=np.int32) * 7, *np.full((2, 40), -1, np.int32)
    with pytest.MonkeyPatch.context() as patch:
        columns.fill_rows(rows, np.array(codes, np.uint32), compiled[: 2 * len(codes)], first, 2)
        patch.setattr(columns, "IS_COMPILED", False)
        columns.fill_rows(rows, np.array(codes, np.uint32), expected[: 2 * len(codes)], first, 2)
    assert compiled.tolist() == expected.tolist()


@given(st.lists(st.text(max_size=300) | st.text("ab", min_size=200, max_size=280), max_size=9, unique=True))
def test_vocabularies_hash_as_xxhash_does(tokens: list[str]) -> None:
    encoded = [t.encode(errors="ignore") for t in tokens]
    distinct = list(dict.fromkeys(encoded))
    vocabulary = Vocabulary.from_tokens([t.decode() for t in distinct])
    assert vocabulary.hashes.tolist() == sorted(xxhash.xxh3_64_intdigest(t) for t in distinct)


@given(arrays(np.float64, st.integers(1, 60), elements=floats), st.integers(2, 30))
def test_bins_end_at_the_next_higher_quantiles(x: NDArray[np.float64], bins: int) -> None:
    finite = x[np.isfinite(x)]
    cuts = np.unique(np.quantile(finite, np.linspace(0, 1, bins + 1)[1:-1], method="higher")) if len(finite) else finite
    assert _boundaries(x, bins) == tuple(c for c in cuts.tolist() if c > finite.min())


def test_what_does_not_fit_is_refused() -> None:
    codes, to = np.array([0, 3], np.uint32), np.zeros(4, np.int32)
    yes = np.ones(2, np.bool_)
    with pytest.raises(ValueError, match="codes"):
        count(codes, yes, np.zeros(3, np.int64), np.zeros(3, np.bool_))
    with pytest.raises(ValueError, match="codes"):
        count(codes, yes[:1], np.zeros(4, np.int64), np.zeros(4, np.bool_))
    with pytest.raises(ValueError, match="codes"):
        look_up(np.zeros(3, np.int32), codes, to, 0, 2)
    for first, step in ((2, 2), (-1, 1), (0, 0), (0, 4)):
        with pytest.raises(ValueError, match="room"):
            look_up(np.zeros(4, np.int32), codes, to, first, step)
        with pytest.raises(ValueError, match="room"):
            place(np.zeros(2), np.zeros(1), 0, 0, to, first, step)
    text, hashes, table = np.zeros(5, np.uint8), np.zeros(2, np.uint64), TokenTable()
    for ends in ([2, 6], [-1, 5], [3, 2], [1, 2, 3]):
        with pytest.raises(ValueError, match="text"):
            hash_tokens(text, np.array(ends), hashes)
        with pytest.raises(ValueError, match="text"):
            table.find_text(text, np.array(ends), np.zeros(2, np.uint32))


def test_columns_that_are_no_strings_are_refused() -> None:
    table, codes = TokenTable(), np.zeros(2, np.uint32)
    with pytest.raises(ValueError, match="strings"):
        table.number(pl.Series([1, 2]).__arrow_c_stream__(), codes)
    for n in (1, 3):
        with pytest.raises(ValueError, match=r"longer|shorter"):
            table.number(pl.Series(["a"] * n).__arrow_c_stream__(), codes)
    used = pl.Series(["a", "b"]).__arrow_c_stream__()
    table.number(used, codes)
    with pytest.raises(ValueError, match=r"shorter|strings"):
        table.number(used, codes)
    with pytest.raises(ValueError, match="PyCapsule"):
        table.number("no column", codes)
