"""What the quick reading takes, pydantic-core takes too, with the same values; the rest is left to it."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.problems import Problem
from app.wire.predict_request import Columns, Wire
from app.wire.quick_reading import FAULTS, MAX_EXPLAINED_BYTES, MIN_BYTES
from app.wire.rank_request import RankWire
from models.artifact.artifact import load_artifact
from models.schema.feature_schema import FittedSchema
from tests.hostile.corpus import BODIES, INTEGERS, NUMBERS, SEQUENCES, TOKENS
from tests.making import make_artifact

MAX_ROWS = 50
FIELDS = {"user_id": INTEGERS, "ad_id": TOKENS, "price": NUMBERS, "clicked_ads": SEQUENCES}


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> FittedSchema:
    return load_artifact(make_artifact(tmp_path_factory.mktemp("artifacts"))).schema


def by_pydantic(schema: FittedSchema, body: bytes) -> Columns | None:
    try:
        return Wire(schema, MAX_ROWS).validate(body)
    except Problem:
        return None


def compare(schema: FittedSchema, body: bytes) -> bool:
    """Return whether the quick reading took a body; if so it must be right."""
    try:
        found = Wire(schema, MAX_ROWS).read_quickly(body)
    except (*FAULTS, Problem):
        return False
    expected = by_pydantic(schema, body)
    assert expected is not None, body
    quick: Any
    assert (found.num_rows, found.unknown_fields) == (expected.num_rows, expected.unknown_fields)
    for quick, slow in zip(found.values, expected.values, strict=True):
        if isinstance(quick, np.ndarray):
            np.testing.assert_array_equal(quick, np.array(slow, np.float64))
        else:
            assert list(quick) == list(slow)
            assert list(map(type, quick)) == list(map(type, slow))
    return True


scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=3)
tokens = st.sampled_from(["ad1", "", "x" * 256, "x" * 257, "é", "\ud800"]) | scalars
values = tokens | st.lists(tokens, max_size=4)
rows = st.dictionaries(st.sampled_from(["user_id", "site", "ad_id", "price", "clicked_ads", "colour"]), values)
good_rows = st.fixed_dictionaries(
    {
        "user_id": st.integers(-(2**63), 2**63 - 1) | st.none(),
        "site": st.text(max_size=5) | st.none(),
        "ad_id": st.text(max_size=5),
        "price": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**6), 10**6) | st.none(),
        "clicked_ads": st.lists(st.text(max_size=3), max_size=3) | st.none(),
    },
    optional=dict.fromkeys(
        ("colour", "two words", "<b>"), scalars.filter(lambda x: x == x and x not in (float("inf"), float("-inf")))
    ),
)


@given(st.lists(rows, max_size=4))
def test_any_rows_that_are_taken_are_right(schema: FittedSchema, instances: list[dict[str, Any]]) -> None:
    compare(schema, json.dumps({"instances": instances}).encode())


@given(
    st.dictionaries(
        st.sampled_from(["user_id", "ad_id", "price", "clicked_ads", "colour"]), st.lists(values, max_size=3)
    )
)
def test_any_columns_that_are_taken_are_right(schema: FittedSchema, inputs: dict[str, Any]) -> None:
    compare(schema, json.dumps({"inputs": inputs}).encode())


@given(st.lists(good_rows, min_size=1, max_size=4))
def test_good_rows_and_columns_are_taken(schema: FittedSchema, instances: list[dict[str, Any]]) -> None:
    columns = {name: [row.get(name) for row in instances] for row in instances for name in row}
    for request in ({"instances": instances}, {"inputs": columns}):
        text = json.dumps(request)
        if "\\ud" not in text:  # lone surrogates are no text
            assert compare(schema, text.encode())


@pytest.mark.parametrize(
    "place", [b'{"instances": [{"site": "a", %b}]}', b'{"instances": [{}, {%b}, {"ad_id": "ad1"}]}']
)
def test_what_is_no_value_is_left_to_pydantic(schema: FittedSchema, place: bytes) -> None:
    for field, cases in FIELDS.items():
        for case in cases:
            body = place % (b'"%b": %b' % (field.encode(), case.text))
            assert compare(schema, body) == (case.status == 200), case.name


def test_what_is_no_request_is_left_to_pydantic(schema: FittedSchema) -> None:
    odd = [
        b"",
        b"[]",
        b"1",
        b'"instances"',
        b"null",
        b"{}",
        b'{"instances": []}',
        b'{"instances": {}}',
        b'{"instances": "a"}',
    ]
    odd += [
        b'{"instances": [{}], "inputs": {}}',
        b'{"inputs": {}}',
        b'{"instances": [{}, 1]}',
        b'{"instances": [null]}',
    ]
    odd += [case.text for case in BODIES if case.status != 200]
    odd += [json.dumps({"instances": [{}] * (MAX_ROWS + 1)}).encode()]
    assert not any(compare(schema, body) for body in odd)


def plain(column: Any) -> list[Any]:
    return [None if value is None or value != value else value for value in column]


def test_a_large_body_is_answered_the_same_either_way(schema: FittedSchema) -> None:
    wire = Wire(schema, 2_000)
    row = {"user_id": 7, "site": "site-1.example", "clicked_ads": ["ad1"], "ad_id": "ad3", "price": 1.5, "colour": 1}
    many = json.dumps({"instances": [row, {}, {"ad_id": None}] * 200}).encode()
    assert len(many) >= MIN_BYTES
    few = wire.validate(json.dumps({"instances": [row, {}, {"ad_id": None}]}).encode())
    found = wire.parse(many)
    assert (found.num_rows, dict(found.unknown_fields)) == (600, {"colour": 200})
    assert [plain(quick)[:3] for quick in found.values] == [plain(slow) for slow in few.values]


def test_a_schema_of_one_field(tmp_path: Path, schema: FittedSchema) -> None:
    field = schema.features.fields[3]
    one = schema.model_copy(
        update={"features": schema.features.model_copy(update={"fields": (field,)}), "fitted": (schema.fitted[3],)}
    )
    found = Wire(one, MAX_ROWS).read_quickly(b'{"instances": [{"ad_id": "a"}, {}]}')
    assert [list(column) for column in found.values] == [["a", None]]


contexts = st.dictionaries(st.sampled_from(["user_id", "site", "ad_id", "colour"]), values, max_size=3)
ids = st.lists(st.sampled_from(["a", "", "x" * 257, "\ud800"]) | st.integers() | st.none(), max_size=3)
rankings = st.fixed_dictionaries(
    {},
    optional={
        "context": contexts,
        "candidates": st.lists(rows, max_size=3),
        "candidate_ids": ids,
        "top_k": st.integers(-1, 3) | st.just("1"),
    },
)


@given(rankings)
def test_any_ranking_that_is_taken_is_right(schema: FittedSchema, request: dict[str, Any]) -> None:
    wire, text = RankWire(schema, MAX_ROWS), json.dumps(request).encode()
    try:
        quick = wire.read_quickly(text)
    except (*FAULTS, Problem):
        with pytest.raises(Problem):
            wire.validate(text)
        return
    slow = wire.validate(text)
    assert (quick.candidate_ids, quick.top_k) == (slow.candidate_ids, slow.top_k)
    assert quick.unknown_fields == slow.unknown_fields
    for a, b in ((quick.context, slow.context), (quick.candidates, slow.candidates)):
        assert (a is None) == (b is None)
        assert [plain(column) for column in a or []] == [plain(column) for column in b or []]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"instances": [{}, {"price": "s3cr3t"}], "inputs": %s}', {"row": 1, "field": "price"}),
        ('{"instances": [{"s3cr3t": [%s], "price": true}]}', {"row": 0, "field": "price"}),
        ('{"inputs": {"ad_id": ["a", 5, %s]}}', {"row": 1, "field": "ad_id"}),
        ('{"inputs": {"clicked_ads": [[], ["a", 5, %s]]}}', {"row": 1, "field": "clicked_ads"}),
        ('{"instances": [{"clicked_ads": ["a", 5, %s]}]}', {"row": 0, "field": "clicked_ads"}),
        ('{"instances": {"s3cr3t": %s}}', {"field": "instances"}),
        ('{"inputs": [%s]}', {"field": "inputs"}),
        ('{"s3cr3t": [%s]}', None),
        ("[%s]", None),
        ('{"instances": [{"price": 1}], "s3cr3t": %s', None),
        ('{"instances": [{"s3cr3t": ' + "[" * 3_000 + "]" * 3_000 + ', "x": "%s"}]}', None),
    ],
)
def test_of_a_large_body_the_first_fault_is_told(schema: FittedSchema, text: str, fault: dict[str, Any] | None) -> None:
    body = (text % ('"' + "s3cr3t" * 50_000 + '"')).encode()
    assert len(body) > MAX_EXPLAINED_BYTES
    with pytest.raises(Problem) as refused:
        Wire(schema, MAX_ROWS).parse(body)
    told = bytes(refused.value.response().body).decode()
    assert "s3cr3t" not in told
    found = [{k: v for k, v in f.items() if k != "message"} for f in refused.value.errors]
    assert found == ([] if fault is None else [fault])


@given(st.binary(max_size=300))
def test_no_bytes_do_anything_but_be_taken_or_have_a_fault(schema: FittedSchema, body: bytes) -> None:
    for reading in (Wire(schema, MAX_ROWS).read_quickly, RankWire(schema, MAX_ROWS).read_quickly):
        with suppress(*FAULTS, Problem):
            reading(body)
