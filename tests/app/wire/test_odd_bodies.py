"""Bodies at the edge of what is right: one verdict each, and the few on which the two readers differ."""

from __future__ import annotations

import json
import os

import pytest

from app.wire.field_types import MAX_UNKNOWN, NOT_PLAIN, OTHERS
from app.wire.predict_request import PredictWire
from app.wire.rank_request import RankWire
from tests.app.wire.comparing import MAX_ROWS, attempt, compare
from tests.hostile.corpus import BODIES, FIELDS, GOOD

if not os.environ.get("CI"):  # there it must be
    pytest.importorskip("models._native", reason="built without a C compiler")


@pytest.mark.parametrize(
    "place", [b'{"instances": [{"site": "a", %b}]}', b'{"instances": [{}, {%b}, {"ad_id": "ad1"}]}']
)
@pytest.mark.parametrize("padding", [0, 3_000, 300_000])
def test_hostile_values_have_one_verdict_whatever_the_blanks(predict: PredictWire, place: bytes, padding: int) -> None:
    for field, cases in FIELDS.items():
        for case in cases:
            body = place % (b'"%b": %b' % (field.encode(), case.text)) + b" " * padding
            assert (attempt(predict.read, body) is not None) == (case.status == 200), case.name
            if padding == 0:
                assert compare(predict, body) == (case.status == 200), case.name


def test_hostile_bodies_are_refused_by_both(predict: PredictWire, rank: RankWire) -> None:
    for case in BODIES:
        assert compare(predict, case.text) == (case.status == 200), case.name
        assert not compare(rank, case.text), case.name
    for wire, body in ((predict, GOOD["/predict"]), (rank, GOOD["/rank"])):
        assert compare(wire, body)
        assert not compare(wire, body[:-1])
        assert not compare(wire, body + b"\0")
    for num_rows in (1, MAX_ROWS, MAX_ROWS + 1):
        is_right = num_rows <= MAX_ROWS
        assert compare(predict, json.dumps({"instances": [{}] * num_rows}).encode()) == is_right
        assert compare(predict, json.dumps({"inputs": {"price": [None] * num_rows}}).encode()) == is_right
        assert compare(rank, json.dumps({"candidates": [{}] * num_rows}).encode()) == is_right
        assert compare(rank, json.dumps({"candidate_ids": ["a"] * num_rows}).encode()) == is_right


@pytest.mark.parametrize(
    ("text", "is_right"),
    [
        ('{"instances": [{"site": "\\ud83d\\ude00\\u00e9\\n\\/"}]}', True),
        ('{"instances": [{"site": "\\ud83dx"}]}', False),
        ('{"instances": [{"site": "\\u12g4"}]}', False),
        ('{"instances": [{"site": "a\tb"}]}', False),
        ('{"instances": [{"site": "a", "site": "b"}]}', True),
        ('{"instances": [{"s\\u0069te": "a"}]}', True),
        ('{"inst\\u0061nces": [{"s\\u0069te": "a", "site": null}, {"\\ud83d\\ude00": 1}]}', True),
        ('{"inputs": {"site": ["a"], "ad_id": ["b", "c"]}}', False),
        ('{"instances": [{"clicked_ads": ["\\u0061d1", "ad2", null]}]}', True),
        (
            '{"instances": [{"clicked_ads": ["\\u0061d1", "ad2"]}, {"clicked_ads": ["ad\\u0033"], "site": "\\u0041"}]}',
            True,
        ),
        ('{"instances": [{"user_id": -0}, {"user_id": 9223372036854775807}, {"user_id": -9223372036854775808}]}', True),
        ('{"instances": [{"user_id": 07}]}', False),
        ('{"instances": [{"price": -0.0}, {"price": 1e308}, {"price": 5e-324}, {"price": 1E+2}]}', True),
        ('{"instances": [{"price": .5}]}', False),
        ('{"instances": [{"price": 1e}]}', False),
        (' \r\n\t{ "instances" : [ { "price" : 1 , "site" : "a" } , { } ] } \n', True),
        ('{"instances": [{"price": 1,}]}', False),
        ('{"instances": [{}],}', False),
        ('{"instances": [{}]} {}', False),
        ('{"instances": [{"x": 1e999, "y": -0.0e-0, "z": true}]}', True),
        ('{"instances": [{"x": tru}]}', False),
        ('{"instances": [{"x": 01}]}', False),
        ('{"instances": [{"x": "\\ud800"}]}', False),
        ('{"instances": [{"\\ud800": 1}]}', False),
        ('{"instances": [{"x": {"y": [1,]}}]}', False),
        ('{"instances": [{"x": {"y" 1}}]}', False),
        ('{"instances": [{"x": {y: 1}}]}', False),
        ('{"instances": [{"x": [1 2]}]}', False),
        ('{"instances": [{"x": []}, {"x": {}}, {"x": [{}, [[]], {"a": [null, false]}]}]}', True),
        ('{"instances": [{"x"}]}', False),
        ('{"instances": [{"x": }]}', False),
        ('{"inputs": {"x": 1, "price": [1, 2], "y": {}}}', True),
    ],
)
def test_forms_of_json(predict: PredictWire, text: str, is_right: bool) -> None:
    assert compare(predict, text.encode()) == is_right


@pytest.mark.parametrize(
    ("text", "by_pydantic"),
    [
        ('{"instances": [{"x": NaN}]}', True),
        ('{"instances": [{"x": [-Infinity]}]}', True),
        ('{"instances": [{"x": ' + "[" * 33 + "]" * 33 + "}]}", True),
        ('{"instances": [{"price": "x", "price": 1}]}', True),
        ('{"inputs": {"price": [1], "price": [1]}}', True),
        ('{"instances": [{"price": 1' + ',"price": 1' * (MAX_ROWS + 1) + "}]}", True),
        ('{"instances": [], "instances": [{}]}', True),
        ('{"instances": [{"x": ' + "9" * 5_000 + "}]}", False),
    ],
)
def test_the_differences_that_are_documented(predict: PredictWire, text: str, by_pydantic: bool) -> None:
    for padding in ("", " " * 3_000, " " * 300_000):
        assert (attempt(predict.read, (text + padding).encode()) is None) == by_pydantic
    assert (attempt(predict.read_with_pydantic, text.encode()) is not None) == by_pydantic


@pytest.mark.parametrize(
    "text", ['{"candidates": [{}], "context": {"x": NaN}}', '{"candidates": [{}], "candidates": [{}]}']
)
def test_so_are_those_of_a_ranking(rank: RankWire, text: str) -> None:
    for padding in ("", " " * 3_000, " " * 300_000):
        assert attempt(rank.read, (text + padding).encode()) is None


def test_values_of_unknown_fields_may_be_32_levels_deep(predict: PredictWire) -> None:
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        for depth in (1, 31, 32, 33):
            body = '{"instances": [{"x": ' + opening * depth + "1" + closing * depth + "}]}"
            assert (attempt(predict.read, body.encode()) is not None) == (depth <= 32)


def test_unknown_names_are_counted_by_both_alike(predict: PredictWire, rank: RankWire) -> None:
    many = {f"n{i}": 1 for i in range(MAX_UNKNOWN + 100)} | {f"né{i}": 1 for i in range(9)}
    rows = [many, {"n0": 1, "new": 1}, {"n299": 2}]
    assert compare(predict, json.dumps({"instances": rows}).encode())
    found = predict.read(json.dumps({"instances": rows}).encode()).unknown_fields
    assert (found["n0"], found[NOT_PLAIN], found[OTHERS]) == (2, 9, 102)
    assert compare(predict, json.dumps({"inputs": {**many, "price": [1, 2]}}).encode())
    assert compare(predict, json.dumps({"inputs": {"price": [1, 2], "né": 3}}, ensure_ascii=False).encode())
    assert compare(
        rank, json.dumps({"context": {"né": 1, "price": 1}, "candidates": [{"sites": 1, "né": 1}] * 2}).encode()
    )
    found = rank.read(
        b'{"context": {"prices": 1, "x": 1}, "candidates": [{"sites": 1, "x": 1}, {"x": [1]}]}'
    ).unknown_fields
    assert found == {"prices": 1, "sites": 1, "x": 3}


def test_a_name_that_a_row_has_twice_is_counted_once(predict: PredictWire) -> None:
    assert predict.read(b'{"instances": [{"x": 1, "x": 2, "\\u0078": 3}, {"x": 1}]}').unknown_fields == {"x": 2}
