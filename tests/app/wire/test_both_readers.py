"""The compiled reader and Pydantic with the encoder read the same from the same bodies, right and wrong ones."""

from __future__ import annotations

import json
import math
import os
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.wire.predict_request import PredictWire
from app.wire.rank_request import RankWire
from tests.app.wire.comparing import compare

if not os.environ.get("CI"):  # there it must be
    pytest.importorskip("models._native", reason="built without a C compiler")

scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=3)
tokens = st.sampled_from(["ad1", "", "x" * 256, "x" * 257, "é", "\ud800", "é" * 256, "🙂" * 257]) | scalars
values = tokens | st.lists(tokens, max_size=7)
known = st.sampled_from([f"ad{i}" for i in range(50)])
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
names = ["user_id", "site", "ad_id", "price", "clicked_ads"]
rows = st.dictionaries(
    st.sampled_from([*names, "colour"]), values.filter(lambda x: x == x and x not in (math.inf, -math.inf))
)
good_values = {
    "user_id": st.integers(0, 60) | st.integers(-(2**63), 2**63 - 1) | st.none(),
    "site": texts | st.sampled_from([f"site-{i}.example" for i in range(12)]) | st.none(),
    "ad_id": known | texts | st.none(),
    "price": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**6), 10**6) | st.none(),
    "clicked_ads": st.lists(known | texts, max_size=8) | st.none(),
}
others = dict.fromkeys(["colour", "two words", "<b>", "né", "x" * 65, "Y-z_1.0"], json_values)


def good_rows(names: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    chosen = {name: good_values[name] for name in names}
    rows: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries({}, optional={**chosen, **others})
    return rows.flatmap(lambda row: st.permutations(list(row.items())).map(dict))


def dump(data: st.DataObject, request: Any) -> bytes:
    """Write a request as JSON in one of its forms."""
    indent, ensure_ascii = data.draw(st.sampled_from([None, 1])), data.draw(st.booleans())
    return json.dumps(request, indent=indent, ensure_ascii=ensure_ascii).encode()


def is_finite(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


@given(st.lists(rows, max_size=4))
def test_they_agree_on_any_rows(predict: PredictWire, instances: list[dict[str, Any]]) -> None:
    instances = [{n: v for n, v in row.items() if n != "colour" or is_finite(v)} for row in instances]
    compare(predict, json.dumps({"instances": instances}).encode())


@given(st.dictionaries(st.sampled_from(names), st.lists(values, max_size=3)))
def test_they_agree_on_any_columns(predict: PredictWire, inputs: dict[str, Any]) -> None:
    compare(predict, json.dumps({"inputs": inputs}).encode())


@given(st.lists(good_rows(names), min_size=1, max_size=20), st.data())
def test_good_rows_and_columns_are_taken(
    predict: PredictWire, instances: list[dict[str, Any]], data: st.DataObject
) -> None:
    assert compare(predict, dump(data, {"instances": instances}))
    columns = {name: [row.get(name) for row in instances] for row in instances for name in row}
    assert compare(predict, dump(data, {"inputs": columns})) == any(name in columns for name in names)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "context": rows,
            "candidates": st.lists(rows, max_size=3),
            "candidate_ids": st.lists(tokens, max_size=3),
            "top_k": st.integers(-1, 3) | st.sampled_from(["1", True, 1.0, 2**63 - 1, 2**63, 10**30, None]),
        },
    )
)
def test_they_agree_on_any_ranking(rank: RankWire, request: dict[str, Any]) -> None:
    for row in [request.get("context", {}), *request.get("candidates", [])]:
        for name in [n for n, v in row.items() if not is_finite(v)]:
            del row[name]
    compare(rank, json.dumps(request).encode())


@given(
    good_rows(names),
    st.lists(good_rows(["ad_id", "price"]), min_size=1, max_size=9),
    st.lists(texts, min_size=1, max_size=9),
    st.data(),
)
def test_good_rankings_are_taken(
    rank: RankWire, context: dict[str, Any], candidates: list[Any], ids: list[str], data: st.DataObject
) -> None:
    parts = {"context": {n: v for n, v in context.items() if n not in ("ad_id", "price")}, "top_k": 3}
    parts |= {"candidates": candidates} if data.draw(st.booleans()) else {"candidate_ids": ids}
    order = data.draw(st.permutations(list(parts)))
    assert compare(rank, dump(data, {name: parts[name] for name in order}))
    assert compare(rank, dump(data, {name: parts[name] for name in order if name not in ("context", "top_k")}))


@given(good_rows(names), st.lists(good_rows(["ad_id", "price"]), min_size=1, max_size=9), st.data())
def test_a_candidates_field_in_the_context_is_that_of_all_candidates_that_lack_it(
    rank: RankWire, context: dict[str, Any], candidates: list[dict[str, Any]], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(["context", "candidates"]))
    request = {"context": context, "candidates": candidates}
    body = dump(data, {part: request[part] for part in order})
    assert compare(rank, body)
    shared = {n: context.pop(n) for n in ("ad_id", "price") if n in context}
    for row in candidates:
        row |= {name: value for name, value in shared.items() if row.get(name) in (None, "")}
    apart = rank.read(json.dumps(request).encode())
    np.testing.assert_array_equal(rank.read(body).candidates.ids, apart.candidates.ids)  # type: ignore[union-attr]
    assert rank.read(body)[4:] == apart[4:]  # what is counted


@given(good_rows(names), st.sampled_from(["user_id", "site", "clicked_ads"]), st.data())
def test_a_field_of_the_context_is_refused_in_a_candidate(
    rank: RankWire, row: dict[str, Any], name: str, data: st.DataObject
) -> None:
    assert not compare(rank, dump(data, {"candidates": [{}, {**row, name: data.draw(good_values[name])}]}))


@given(good_rows(["ad_id", "price"]), good_rows(["user_id"]), st.data())
def test_a_candidates_field_in_the_context_is_refused_beside_ids(
    rank: RankWire, shared: dict[str, Any], context: dict[str, Any], data: st.DataObject
) -> None:
    body = dump(data, {"context": {**context, **shared}, "candidate_ids": ["a"]})
    assert compare(rank, body) == all(shared.get(name) in (None, "") for name in ("ad_id", "price"))


@given(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["%r", "%.0f", "%.3e", "%.25f", "%.17g", "%.400e"]),
)
def test_numbers_fall_into_the_bin_of_the_nearest_double(predict: PredictWire, number: float, form: str) -> None:
    literal = form % number
    taken = compare(predict, b'{"instances": [{"price": %s}]}' % literal.encode())
    assert taken == math.isfinite(float(literal))


@given(st.binary(max_size=300))
def test_they_agree_on_any_bytes(predict: PredictWire, rank: RankWire, body: bytes) -> None:
    compare(predict, body)
    compare(rank, body)


@settings(max_examples=300)
@given(st.data())
def test_they_agree_on_good_bytes_with_a_fault(predict: PredictWire, rank: RankWire, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.fixed_dictionaries({}, optional=good_values), min_size=1, max_size=3))
    wire: PredictWire | RankWire = predict if data.draw(st.booleans()) else rank
    request = {"instances" if wire is predict else "candidates": rows}
    body = bytearray(json.dumps(request, ensure_ascii=False).encode())
    at = data.draw(st.integers(0, len(body) - 1))
    body[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    if b"NaN" not in body and b"Infinity" not in body:
        compare(wire, bytes(body))
