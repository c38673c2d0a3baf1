import json
from typing import Any

import pytest

from app.http.error_answers import answer_of
from app.problems import Problem
from app.wire.predict_request import PredictWire
from app.wire.refusals import MAX_ERRORS, MAX_EXPLAINED_BYTES, MAX_FAULTS
from models.artifact.artifact import Artifact
from models.artifact.golden import columns_of

ROW: dict[str, Any] = {
    "user_id": 7,
    "site": "site-1.example",
    "clicked_ads": ["ad1", "ad2"],
    "ad_id": "ad3",
    "price": 1.5,
}
SECRET = "s3cr3t-value"


@pytest.fixture(scope="module")
def wire(artifact: Artifact) -> PredictWire:
    return PredictWire(artifact.schema, artifact.encoder, max_rows=8)


def body(**request: Any) -> bytes:
    return json.dumps(request).encode()


def problem(wire: PredictWire, raw: bytes) -> dict[str, Any]:
    with pytest.raises(Problem) as caught:
        wire.read(raw)
    response = answer_of(caught.value, None)
    assert response.status == 422
    answer: dict[str, Any] = json.loads(response.body)
    assert answer["code"] == "invalid_input"
    assert SECRET not in response.body.decode()
    assert len(response.body) < 8_192
    return answer


def test_rows_and_columns_say_the_same(wire: PredictWire, artifact: Artifact) -> None:
    rows = [ROW, {**ROW, "price": None, "user_id": -1}, {**ROW, "clicked_ads": []}]
    by_row = wire.read(body(instances=rows))
    by_column = wire.read(body(inputs={name: [row[name] for row in rows] for name in ROW}))
    expected = artifact.encoder.encode(columns_of(artifact.schema, rows))
    for found in (by_row, by_column):
        assert found.batch.ids.tolist() == expected.ids.tolist()
        assert found.batch.offsets.tolist() == expected.offsets.tolist()
        assert (found.missing, found.unseen) == ({"clicked_ads": 1, "price": 1}, {"user_id": 1})


def test_absent_fields_are_missing_and_unknown_ones_are_counted_by_name(wire: PredictWire) -> None:
    found = wire.read(body(instances=[{"ad_id": "?", "colour": 1}, {"colour": [{}], "a b\n": 2}]))
    assert found.missing == {"user_id": 2, "site": 2, "clicked_ads": 2, "ad_id": 1, "price": 2}
    assert found.unseen == {"ad_id": 1}
    assert found.unknown_fields == {"colour": 2, "(not a plain name)": 1}
    assert wire.read(body(inputs={"ad_id": ["x", "y"], "colour": SECRET})).unknown_fields == {"colour": 2}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("user_id", SECRET, "an integer"),
        ("user_id", 1.5, "an integer"),
        ("user_id", "007", "an integer"),
        ("user_id", True, "an integer"),
        ("user_id", [7], "an integer"),
        ("ad_id", ["ad1"], "a string"),
        ("ad_id", {}, "a string"),
        ("price", SECRET, "a finite number"),
        ("price", "1,5", "a finite number"),
        ("price", "1 5", "a finite number"),
        ("price", "1" * 65, "a finite number"),
        ("price", [], "a finite number"),
        ("clicked_ads", 7, "a list"),
        ("clicked_ads", {}, "a list"),
        ("clicked_ads", [["a"]], "a list"),
    ],
)
def test_a_fault_names_row_and_field(wire: PredictWire, field: str, value: object, message: str) -> None:
    (fault,) = problem(wire, body(instances=[ROW, {**ROW, field: value}]))["errors"]
    assert (fault["row"], fault["field"]) == (1, field)
    assert message in fault["message"]
    if not isinstance(value, list):
        (fault,) = problem(wire, body(inputs={field: [None, value]}))["errors"]
        assert (fault["row"], fault["field"]) == (1, field)


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
def test_what_is_no_request_is_refused(wire: PredictWire, raw: bytes) -> None:
    problem(wire, raw)


def test_only_the_first_faults_are_listed(wire: PredictWire) -> None:
    bad: list[dict[str, Any]] = [{name: {} for name in ROW}] * 8
    assert len(problem(wire, body(instances=bad))["errors"]) == MAX_ERRORS


def test_the_example_is_a_valid_request_and_the_json_schema_shows_the_fields(wire: PredictWire) -> None:
    assert wire.read(json.dumps(wire.example).encode()).unknown_fields == {}
    impression = wire.json_schema()["$defs"]["Impression"]["properties"]
    assert list(impression) == list(ROW)
    assert {"type": "integer"} in impression["user_id"]["anyOf"]


def test_limits_of_other_wires_do_not_mix(artifact: Artifact) -> None:
    one, two = (PredictWire(artifact.schema, artifact.encoder, n) for n in (1, 2))
    assert len(two.read(body(instances=[ROW, ROW])).batch) == 2
    with pytest.raises(Problem):
        one.read(body(instances=[ROW, ROW]))


def test_a_flood_of_faults_is_refused_without_listing_them(wire: PredictWire) -> None:
    tokens = problem(wire, body(instances=[{"clicked_ads": [[]] * 1_000, "price": SECRET}] * 8))["errors"]
    assert [fault["field"] for fault in tokens] == ["clicked_ads", "price"] * 8
    keys = problem(wire, body(**{f"{SECRET}{i}": 1 for i in range(MAX_FAULTS + 1)}))
    assert keys["detail"] == "more than 10000 faults"
    assert "errors" not in keys


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"instances": [{}, {"price": "s3cr3t"}], "inputs": "%s"}', {"row": 1, "field": "price"}),
        ('{"instances": [{"s3cr3t": ["%s"], "price": {}}]}', {"row": 0, "field": "price"}),
        ('{"inputs": {"ad_id": ["a", [], "%s"]}}', {"row": 1, "field": "ad_id"}),
        ('{"inputs": {"clicked_ads": [[], ["a", {}, "%s"]]}}', {"row": 1, "field": "clicked_ads"}),
        ('{"instances": [{"clicked_ads": ["a", {}, "%s"]}]}', {"row": 0, "field": "clicked_ads"}),
        ('{"instances": {"s3cr3t": "%s"}}', {"field": "instances"}),
        ('{"inputs": ["%s"]}', {"field": "inputs"}),
        ('{"s3cr3t": ["%s"]}', {}),
        ('["%s"]', {}),
        ('{"instances": [{"price": 1}], "s3cr3t": "%s"', {}),
        ('{"instances": [{"s3cr3t": ' + "[" * 3_000 + "]" * 3_000 + ', "x": "%s"}]}', {"row": 0, "field": "instances"}),
    ],
)
def test_of_a_large_body_the_first_fault_is_told(wire: PredictWire, text: str, fault: dict[str, Any]) -> None:
    raw = (text % ("s3cr3t" * 50_000)).encode()
    assert len(raw) > MAX_EXPLAINED_BYTES
    with pytest.raises(Problem) as refused:
        wire.read(raw)
    assert "s3cr3t" not in answer_of(refused.value, None).body.decode()
    assert [{k: v for k, v in f.items() if k != "message"} for f in refused.value.errors] == [fault]


def test_what_pydantic_finds_right_is_refused_all_the_same(wire: PredictWire) -> None:
    (fault,) = problem(wire, b'{"instances":[{},{"price":"' + SECRET.encode() + b'","price":1}]}')["errors"]
    assert fault == {"message": "expected a finite number, or null", "row": 1, "field": "price"}


def test_without_a_compiler_pydantic_decides(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.wire.predict_request.IS_COMPILED", False)
    wire = PredictWire(artifact.schema, artifact.encoder, max_rows=8)
    assert len(wire.read(body(instances=[ROW])).batch) == 1
    assert len(wire.read(b'{"instances":[{"x":NaN}]}').batch) == 1
    assert problem(wire, body(instances=[{"price": "x"}]))["errors"][0]["field"] == "price"
