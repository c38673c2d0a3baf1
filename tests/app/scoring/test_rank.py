"""``/rank`` against ``/predict``, row by row, and the life of the catalog."""

from pathlib import Path
from typing import Any

import httpx
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from models.artifact.artifact import Artifact, load_artifact
from models.artifact.golden import columns_of
from models.network.head import SideActivations
from models.network.side_activations import SideScorer
from tests.making import make_artifact
from tests.server import Server, serving

CONTEXT = {"user_id": 7, "site": "site-1.example", "clicked_ads": ["ad1", "ad2"]}
CANDIDATES = [{"ad_id": f"ad{i % 60}", "price": None if i % 7 == 0 else i / 10} for i in range(200)]
ITEMS = {f"c{i}": candidate for i, candidate in enumerate(CANDIDATES)}


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return load_artifact(make_artifact(tmp_path_factory.mktemp("a")))


def activations(artifact: Artifact, scorer: SideScorer, rows: list[dict[str, Any]]) -> SideActivations:
    batch = scorer.encoder.encode([[row.get(f.spec.name) for row in rows] for f in scorer.encoder.fields])
    return scorer.activations(batch, artifact.table.take(batch.ids, axis=0))


contexts = st.fixed_dictionaries(
    {},
    optional={
        "user_id": st.integers(-5, 600),
        "site": st.sampled_from(["site-1.example", "?", ""]),
        "clicked_ads": st.lists(st.sampled_from(["ad1", "ad2", "?"]), max_size=8),
    },
)
candidates = st.fixed_dictionaries(
    {}, optional={"ad_id": st.sampled_from(["ad1", "ad2", "ad40", "?"]), "price": st.none() | st.floats(-10, 20)}
)


@given(contexts, st.lists(candidates, min_size=1, max_size=5))
def test_added_side_activations_equal_whole_impressions(
    artifact: Artifact, context: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    head = artifact.predictor.head
    sides = [SideScorer(artifact.encoder, head, side) for side in ("context", "candidate")]
    places = np.arange(len(rows))
    ranked = head.rank(activations(artifact, sides[0], [context]), activations(artifact, sides[1], rows), places)
    whole = artifact.encoder.encode(columns_of(artifact.schema, [{**context, **row} for row in rows]))
    np.testing.assert_allclose(ranked, artifact.predictor.score_table(whole, artifact.table), atol=1e-5)


def predicted(server: Server, rows: list[dict[str, Any]]) -> list[float]:
    answer = server.client.post("/predict", json={"instances": [{**CONTEXT, **row} for row in rows]})
    return [float(p) for p in answer.json()["predictions"]]


def check_ranking(answer: dict[str, Any], expected: list[float], top_k: int) -> None:
    assert answer["model_version"] == "v1"
    assert len(answer["indices"]) == len(answer["probabilities"]) == top_k
    assert answer["probabilities"] == sorted(answer["probabilities"], reverse=True)
    assert answer["probabilities"] == pytest.approx([expected[i] for i in answer["indices"]], abs=1e-5)
    assert answer["probabilities"] == pytest.approx(sorted(expected, reverse=True)[:top_k], abs=1e-5)


@pytest.mark.parametrize("hot_bytes", [0, 2**28])
def test_inline_candidates_are_ranked_as_predicted(tmp_path: Path, hot_bytes: int) -> None:
    make_artifact(tmp_path)
    with serving(tmp_path, hot_bytes=hot_bytes) as server:
        expected = predicted(server, CANDIDATES)
        body = {"context": CONTEXT, "candidates": CANDIDATES}
        check_ranking(server.client.post("/rank", json=body).json(), expected, len(CANDIDATES))
        check_ranking(server.client.post("/rank", json={**body, "top_k": 5}).json(), expected, 5)
        check_ranking(server.client.post("/rank", json={**body, "top_k": 10**6}).json(), expected, len(CANDIDATES))
        odd = {"context": {**CONTEXT, "ad_id": "ad1"}, "candidates": [{"ad_id": "ad1", "colour": 1}]}
        assert server.client.post("/rank", json=odd).json()["unknown_fields"] == {"ad_id": 1, "colour": 1}


def test_a_catalog_is_put_kept_followed_by_every_worker_and_survives_restarts_and_swaps(tmp_path: Path) -> None:
    make_artifact(tmp_path)
    catalog = tmp_path / "catalog.json"
    ids = [*ITEMS, "never put"]
    body = {"context": CONTEXT, "candidate_ids": ids, "top_k": 3}
    with serving(tmp_path, catalog=catalog, workers=2) as server:
        assert server.client.post("/rank", json=body).json()["code"] == "no_catalog"
        assert server.client.put("/catalog", json={"items": ITEMS}).json() == {"items": len(ITEMS)}
        expected = predicted(server, CANDIDATES)

        def answers() -> list[httpx.Response]:
            # A new connection each time, so that both workers are asked.
            return [httpx.post(f"{server.client.base_url}/rank", json=body, timeout=10) for _ in range(8)]

        server.wait_for(lambda: all(answer.status_code == 200 for answer in answers()))
        for answer in answers():
            check_ranking(answer.json(), expected, 3)
            assert answer.json()["not_in_catalog"] == [len(ITEMS)]
    with serving(tmp_path, catalog=catalog, workers=2) as server:
        check_ranking(server.client.post("/rank", json=body).json(), expected, 3)
        make_artifact(tmp_path, "v2", seed=1)
        server.wait_for(lambda: server.client.post("/rank", json=body).json()["model_version"] == "v2")
        best = server.client.post("/rank", json=body).json()
        again = predicted(server, [CANDIDATES[i] for i in best["indices"]])
        assert best["probabilities"] == pytest.approx(again, abs=1e-5)


def test_what_is_no_ranking_request_is_refused(tmp_path: Path) -> None:
    make_artifact(tmp_path)
    with serving(tmp_path, catalog=tmp_path / "catalog.json", max_rows=10) as server:

        def code(body: object, method: str = "POST", path: str = "/rank") -> str:
            answer = server.client.request(method, path, json=body)
            assert answer.headers["content-type"] == "application/problem+json"
            return f"{answer.status_code} {answer.json()['code']}"

        good = [{"ad_id": "ad1"}]
        assert code({"context": CONTEXT}) == "422 invalid_input"
        assert code({"candidates": []}) == "422 invalid_input"
        assert code({"candidates": good, "candidate_ids": ["c1"]}) == "422 invalid_input"
        assert code({"candidates": good * 11}) == "422 invalid_input"
        assert code({"candidates": good, "top_k": 0}) == "422 invalid_input"
        assert code({"candidates": good, "top_k": True}) == "422 invalid_input"
        assert code({"candidate_ids": ["c1"]}) == "409 no_catalog"
        assert code({"items": {"c1": {"price": "dear"}}}, "PUT", "/catalog") == "422 invalid_input"
        assert code({}, "PUT", "/catalog") == "422 invalid_input"
        assert code({"items": {}}, "PATCH", "/catalog") == "405 method_not_allowed"
        fault = server.client.post("/rank", json={"candidates": [{}, {"price": "dear"}]}).json()["errors"][0]
        assert (fault["row"], fault["field"]) == (1, "price")
        assert server.client.post("/rank", json={"candidates": good}).status_code == 200
        assert server.client.put("/catalog", json={"items": {}}).json() == {"items": 0}
        assert server.client.post("/rank", json={"candidate_ids": ["c1"]}).json()["not_in_catalog"] == [0]


def test_the_documented_example_works(tmp_path: Path) -> None:
    make_artifact(tmp_path)
    with serving(tmp_path) as server:
        path = server.client.get("/openapi.json").json()["paths"]["/rank"]["post"]
        example = path["requestBody"]["content"]["application/json"]["example"]
        assert server.client.post("/rank", json=example).status_code == 200
        unset = server.client.put("/catalog", json={"items": ITEMS})
        assert (unset.status_code, unset.json()["code"]) == (409, "no_catalog")
