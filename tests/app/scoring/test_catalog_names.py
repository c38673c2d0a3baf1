"""The compiled index of a catalog's ids finds them as a dictionary does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.scoring import ranker

STRINGS = st.text(max_size=5) | st.sampled_from(
    ["", "a", "\x00", "\ud800", "c" * 12, "c" * 13, "c" * 12 + "d", "c" * 240, "c" * 300, "c" * 299 + "d"]
)


@given(st.lists(STRINGS.filter("\ud800".__ne__), max_size=200, unique=True), st.lists(STRINGS, max_size=200))
def test_places_are_those_of_a_dictionary(names: list[str], further: list[str]) -> None:
    places = {name: place for place, name in enumerate(names)}
    assert ranker.finder(names)(further + names).tolist() == [places.get(name, -1) for name in further + names]


def test_many_names_are_told_apart_with_and_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"c{i}" for i in range(50_000)]
    wanted = [*reversed(names), "c50000"]
    compiled = ranker.finder(names)(wanted)
    monkeypatch.setattr(ranker, "NameIndex", None)
    np.testing.assert_array_equal(compiled, ranker.finder(names)(wanted))
    assert compiled.tolist() == [*range(49_999, -1, -1), -1]


def test_what_is_no_list_of_distinct_strings_is_refused() -> None:
    native = pytest.importorskip("models._native", reason="built without a C compiler")
    for wrong in ([1], ("a",)):
        with pytest.raises(TypeError):
            native.NameIndex(["a"]).find(wrong)
    for twice in (["\ud800"], ["a", "b", "a"]):
        with pytest.raises(ValueError, match="given twice, or has a lone surrogate"):
            native.NameIndex(twice)
