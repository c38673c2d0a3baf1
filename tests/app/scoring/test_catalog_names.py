"""Names are found as a dictionary finds them."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

if not os.environ.get("CI"):  # there it must be
    pytest.importorskip("models._native", reason="built without a C compiler")

from models._native import Names

STRINGS = st.text(max_size=5) | st.sampled_from(
    ["", "a", "\x00", "c" * 12, "c" * 13, "c" * 12 + "d", "c" * 239, "c" * 240, "c" * 300, "c" * 299 + "d"]
)


@given(st.lists(STRINGS, max_size=200, unique=True), st.lists(STRINGS, max_size=200))
def test_places_are_those_of_a_dictionary(names: list[str], further: list[str]) -> None:
    places = {name: place for place, name in enumerate(names)}
    wanted = further + names
    found = np.frombuffer(Names(names).find(wanted), np.int64)
    assert found.tolist() == [places.get(name, -1) for name in wanted]


def test_many_names_are_told_apart() -> None:
    names = [f"c{i}" for i in range(50_000)]
    found = np.frombuffer(Names(names).find([*reversed(names), "c50000"]), np.int64)
    assert found.tolist() == [*range(49_999, -1, -1), -1]


def test_what_is_no_text_is_not_found_or_refused() -> None:
    names = Names(["a", ""])
    assert np.frombuffer(names.find(["\ud800", "a", ""]), np.int64).tolist() == [-1, 0, 1]
    with pytest.raises(TypeError):
        names.find([1])  # type: ignore[list-item]
    with pytest.raises(TypeError):
        names.find(("a",))  # type: ignore[arg-type]
    for wrong in (["\ud800"], ["a", "b", "a"]):
        with pytest.raises(ValueError, match="a name twice, or with half"):
            Names(wrong)
