"""What `/rank` and `/catalog` bodies hold, and how they are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.problems import Problem
from app.wire.rank_request import RankWire
from models.artifact.artifact import Artifact
from models.features.encoder import FeatureEncoder
from models.schema.feature_schema import FittedSchema

CONTEXT: dict[str, Any] = {"user_id": 7, "site": "site-1.example", "clicked_ads": ["ad1", "?"]}
CANDIDATES: list[dict[str, Any]] = [{"ad_id": "ad3", "price": 1.5}, {"ad_id": "?"}, {}]


@pytest.fixture(scope="module")
def wire(artifact: Artifact) -> RankWire:
    return RankWire(artifact.schema, artifact.encoder, max_rows=8)


def body(**request: Any) -> bytes:
    return json.dumps(request).encode()


def fault_of(wire: RankWire, raw: bytes) -> dict[str, Any]:
    with pytest.raises(Problem) as caught:
        wire.read(raw)
    assert caught.value.code == "invalid_input"
    fault: dict[str, Any] = dict(caught.value.errors[0])
    return fault


def test_both_sides_are_encoded_and_counted_together(wire: RankWire, artifact: Artifact) -> None:
    found = wire.read(body(context=CONTEXT, candidates=CANDIDATES, top_k=2))
    context, candidate = artifact.encoder.side("context"), artifact.encoder.side("candidate")
    assert found.context is not None
    assert found.candidates is not None
    assert found.context.ids.tolist() == context.encode([[CONTEXT[name]] for name in context.names]).ids.tolist()
    columns = [[row.get(name) for row in CANDIDATES] for name in candidate.names]
    assert found.candidates.ids.tolist() == candidate.encode(columns).ids.tolist()
    assert wire.candidate_columns(CANDIDATES) == columns
    assert (found.candidate_ids, found.top_k) == (None, 2)
    assert (found.missing, found.unseen) == ({"ad_id": 1, "price": 2}, {"clicked_ads": 1, "ad_id": 1})


def test_without_a_context_all_its_fields_are_missing(wire: RankWire) -> None:
    found = wire.read(body(candidate_ids=["a", "é"]))
    assert found.context is not None
    assert (len(found.context), found.candidates, found.candidate_ids, found.top_k) == (1, None, ["a", "é"], None)
    assert found.missing == {"user_id": 1, "site": 1, "clicked_ads": 1}


def test_a_fault_names_what_is_wrong(wire: RankWire) -> None:
    assert fault_of(wire, body(candidates=[{}, {"price": "x"}])).items() >= {"row": 1, "field": "price"}.items()
    assert fault_of(wire, body(context={"user_id": "x"}, candidates=[{}]))["field"] == "user_id"
    assert fault_of(wire, body(candidate_ids=["a", 1])).items() >= {"row": 1, "field": "candidate_ids"}.items()
    assert fault_of(wire, body(candidates=[{}], top_k=0))["field"] == "top_k"
    assert "message" in fault_of(wire, body(candidates=[{}], candidate_ids=["a"]))
    large = body(candidates=[{}, {"price": [], "x": "x" * 300_000}])
    assert fault_of(wire, large) == {"message": "expected a finite number, or null", "row": 1, "field": "price"}


def test_a_field_on_the_other_side_is_shared_or_refused_by_name(wire: RankWire, artifact: Artifact) -> None:
    found = wire.read(body(context={**CONTEXT, "price": 1.5}, candidates=[{"ad_id": "ad3"}, {"price": 9.0}]))
    expected = wire.read(body(context=CONTEXT, candidates=[{"ad_id": "ad3", "price": 1.5}, {"price": 9.0}]))
    assert found.candidates is not None
    assert expected.candidates is not None
    assert found.candidates.ids.tolist() == expected.candidates.ids.tolist()
    assert found[4:] == expected[4:]
    misplaced = fault_of(wire, body(candidates=[{}, {"site": "a"}]))
    assert misplaced == {"message": "is a field of the context, which all candidates share", "row": 1, "field": "site"}
    for read in (wire.read, wire.read_with_pydantic):
        with pytest.raises(Problem) as caught:
            read(body(context={"price": 1.5}, candidate_ids=["a"]))
        assert caught.value.errors[0]["field"] == "price"


def test_a_catalog_is_checked_like_candidates(wire: RankWire) -> None:
    items = {"a": {"ad_id": "ad1", "colour": 1}, "b": {}}
    assert wire.parse_catalog(body(items=items)) == items
    for wrong in (
        b"{}",
        body(items=[]),
        body(items={"a": {"price": "x"}}),
        body(items={"a": {"site": "x"}}),
        body(items={}, more=1),
        b"{",
    ):
        with pytest.raises(Problem):
            wire.parse_catalog(wrong)


def test_a_model_without_candidate_fields_ranks_nothing(artifact: Artifact) -> None:
    fields = tuple(f.model_copy(update={"side": "context"}) for f in artifact.schema.features.fields)
    features = artifact.schema.features.model_copy(update={"fields": fields})
    schema = FittedSchema(features=features, fitted=artifact.schema.fitted, num_tokens=artifact.schema.num_tokens)
    wire = RankWire(schema, FeatureEncoder(schema, artifact.encoder.vocabularies), max_rows=8)
    for read in (wire.read, wire.parse_catalog):
        with pytest.raises(Problem) as caught:
            read(b"{}")
        assert caught.value.code == "not_rankable"


def test_the_example_is_a_valid_request_and_the_json_schema_shows_both_sides(wire: RankWire) -> None:
    assert wire.read(json.dumps(wire.example).encode()).unknown_fields == {}
    definitions = wire.json_schema()["$defs"]
    assert list(definitions["Context"]["properties"]) == ["user_id", "site", "clicked_ads"]
    assert list(definitions["Candidate"]["properties"]) == ["ad_id", "price"]


def test_without_a_compiler_pydantic_decides(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.wire.rank_request.IS_COMPILED", False)
    wire = RankWire(artifact.schema, artifact.encoder, max_rows=8)
    assert wire.read(body(context={"x": float("nan")}, candidate_ids=["a"])).candidate_ids == ["a"]
    assert fault_of(wire, body(candidates=[{}, {"price": "x"}]))["row"] == 1
