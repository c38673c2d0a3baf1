import json
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from app.problems import Problem
from app.wire.field_types import MAX_ERRORS, MAX_FAULTS, MAX_UNKNOWN, OTHERS
from app.wire.predict_request import Columns, Wire
from models.artifact.artifact import load_artifact
from tests.making import make_artifact

ROW = {"user_id": 7, "site": "site-1.example", "clicked_ads": ["ad1", "ad2"], "ad_id": "ad3", "price": 1.5}
SECRET = "s3cr3t-value"


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Wire:
    return Wire(load_artifact(make_artifact(tmp_path_factory.mktemp("a"))).schema, max_rows=8)


def body(**request: Any) -> bytes:
    return json.dumps(request).encode()


def problem(wire: Wire, raw: bytes) -> dict[str, Any]:
    with pytest.raises(Problem) as caught:
        wire.parse(raw)
    response = caught.value.response()
    assert (response.status_code, response.media_type) == (422, "application/problem+json")
    answer: dict[str, Any] = json.loads(bytes(response.body))
    assert answer["code"] == "invalid_input"
    assert SECRET not in bytes(response.body).decode()
    assert len(response.body) < 8_192
    return answer


def lists(columns: Columns) -> list[list[Any]]:
    return [list(values) for values in columns.values]


def test_rows_and_columns_say_the_same(wire: Wire) -> None:
    rows = [ROW, {**ROW, "price": None, "user_id": -1}, {**ROW, "clicked_ads": []}]
    by_row = wire.parse(body(instances=rows))
    by_column = wire.parse(body(inputs={name: [row[name] for row in rows] for name in ROW}))
    assert lists(by_row) == lists(by_column)
    assert lists(by_row) == [[row[name] for row in rows] for name in ROW]
    assert by_row.num_rows == 3


def test_absent_fields_are_none_and_unknown_ones_are_counted_by_name(wire: Wire) -> None:
    columns = wire.parse(body(instances=[{"ad_id": "x", "colour": 1}, {"colour": [{}], "a b\n": 2}]))
    assert lists(columns) == [[None, None], [None, None], [None, None], ["x", None], [None, None]]
    assert columns.unknown_fields == {"colour": 2, "(not a plain name)": 1}
    assert wire.parse(body(inputs={"ad_id": ["x"], "colour": SECRET})).unknown_fields == {"colour": 1}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("user_id", SECRET, "valid integer"),
        ("user_id", 1.0, "valid integer"),
        ("user_id", True, "valid integer"),
        ("user_id", 2**63, "less than or equal"),
        ("user_id", 2**70, "less than or equal"),
        ("ad_id", 7, "valid string"),
        ("ad_id", SECRET * 100, "at most 256 characters"),
        ("price", SECRET, "valid number"),
        ("price", True, "valid number"),
        ("clicked_ads", SECRET, "valid array"),
        ("clicked_ads", [None], "valid string"),
        ("clicked_ads", ["a"] * 1_001, "at most 1000 items"),
    ],
)
def test_a_fault_names_row_and_field(wire: Wire, field: str, value: object, message: str) -> None:
    (fault,) = problem(wire, body(instances=[ROW, {**ROW, field: value}]))["errors"]
    assert (fault["row"], fault["field"]) == (1, field)
    assert message in fault["message"]
    if not isinstance(value, list):
        (fault,) = problem(wire, body(inputs={field: [None, value]}))["errors"]
        assert (fault["row"], fault["field"]) == (1, field)


def test_of_many_unknown_fields_the_first_are_told_apart(wire: Wire) -> None:
    for row in ({f"n{i}": 1 for i in range(1_000)}, {f"n{i}": 1 for i in range(10_000)}):  # the second is a large body
        unknown = wire.parse(body(instances=[row])).unknown_fields
        assert len(unknown) == MAX_UNKNOWN + 1
        assert sum(unknown.values()) == len(row)
        assert unknown[OTHERS] == len(row) - MAX_UNKNOWN
        columns = {name: [value] * 3 for name, value in row.items()} | {"ad_id": ["ad1"] * 3}
        unknown = wire.parse(body(inputs=columns)).unknown_fields
        assert len(unknown) == MAX_UNKNOWN + 1
        assert sum(unknown.values()) == 3 * len(row)
        assert unknown[OTHERS] == 3 * (len(row) - MAX_UNKNOWN)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5_000, "-" + "9" * 5_000])
def test_numbers_that_are_not_finite_are_refused(wire: Wire, number: str) -> None:
    for field in ("price", "user_id"):
        problem(wire, b'{"instances":[{"%s":%s}]}' % (field.encode(), number.encode()))


@pytest.mark.parametrize("number", ["-0.0", "5e-324", "1.7976931348623157e308", "9007199254740993", "0"])
def test_every_finite_number_is_taken(wire: Wire, number: str) -> None:
    assert lists(wire.parse(b'{"instances":[{"price":%s}]}' % number.encode()))[-1] == [float(number)]


@pytest.mark.parametrize(
    "raw",
    [
        b"", b" ", b"null", b"1", b"[]", b"{}", b'"x"', b"{", b"\xff\xfe{\x00", b"\xef\xbb\xbf{}",
        b'{"instances":[]}', b'{"instances":{}}', b'{"instances":null}', b'{"instances":[[]]}', b'{"instances":[{}]}x',
        b'{"inputs":{}}', b'{"inputs":[]}', b'{"inputs":{"price":[]}}', b'{"inputs":{"price":[1],"ad_id":["a","b"]}}',
        b'{"inputs":{"colour":[1]}}', b'{"instances":[{}],"inputs":{"price":[1]}}', b'{"instances":[{}],"s3cr3t-value":1}',
        b'{"instances":[{"ad_id":"\\ud800"}]}', b'{"instances":[{"\\ud800":1}]}', b'{"instances":[{"ad_id":"\xff"}]}',
        b"[" * 250_000, b'{"a":' * 100_000, b'{"instances":[{"x":' + b"[" * 1_000,
    ],
    ids=lambda raw: repr(raw[:40]),
)  # fmt: skip
def test_what_is_no_request_is_refused(wire: Wire, raw: bytes) -> None:
    problem(wire, raw)


def test_too_many_rows_are_refused_whole(wire: Wire) -> None:
    assert wire.parse(body(instances=[ROW] * 8)).num_rows == 8
    problem(wire, body(instances=[ROW] * 9))
    problem(wire, body(inputs={"price": [1.0] * 9}))


def test_only_the_first_faults_are_listed(wire: Wire) -> None:
    bad: list[dict[str, Any]] = [{name: {} for name in ROW}] * 8
    assert len(problem(wire, body(instances=bad))["errors"]) == MAX_ERRORS


def test_the_last_of_two_equal_keys_wins(wire: Wire) -> None:
    assert lists(wire.parse(b'{"instances":[{"price":1,"price":2}]}'))[-1] == [2.0]


def test_the_example_is_a_valid_request_and_the_json_schema_shows_the_fields(wire: Wire) -> None:
    assert wire.parse(json.dumps(wire.example).encode()).unknown_fields == {}
    impression = wire.json_schema()["$defs"]["Impression"]["properties"]
    assert list(impression) == list(ROW)
    assert {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1} in impression["user_id"]["anyOf"]


@given(st.binary(max_size=300))
def test_no_bytes_do_anything_but_parse_or_be_refused(wire: Wire, raw: bytes) -> None:
    try:
        wire.parse(raw)
    except Problem as refused:
        assert refused.code == "invalid_input"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*ROW, "x"]), inner, max_size=3),
    max_leaves=12,
)


@given(st.lists(st.dictionaries(st.sampled_from([*ROW, "x"]), json_values, max_size=4), max_size=3))
def test_no_json_does_anything_but_parse_or_be_refused(wire: Wire, rows: list[dict[str, Any]]) -> None:
    try:
        columns = wire.parse(body(instances=rows))
    except Problem as refused:
        assert refused.code == "invalid_input"
    else:
        assert columns.num_rows == len(rows)


def test_schemas_of_other_artifacts_do_not_mix(tmp_path: Path) -> None:
    one, two = (Wire(load_artifact(make_artifact(tmp_path / str(n))).schema, n) for n in (1, 2))
    assert two.parse(body(instances=[ROW, ROW])).num_rows == 2
    with pytest.raises(Problem):
        one.parse(body(instances=[ROW, ROW]))


def test_a_flood_of_faults_is_refused_without_listing_them(wire: Wire) -> None:
    tokens = problem(wire, body(instances=[{"clicked_ads": [1] * 1_000, "price": SECRET}] * 8))["errors"]
    assert [fault["field"] for fault in tokens] == ["clicked_ads", "price"] * 8
    keys = problem(wire, body(**{f"{SECRET}{i}": 1 for i in range(MAX_FAULTS + 1)}))
    assert keys["detail"] == "more than 10000 faults"
    assert "errors" not in keys
