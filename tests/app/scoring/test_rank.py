"""``/rank`` against ``/predict``, row by row, and the life of the catalog."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.making import make_artifact
from tests.server import Server, serving

CONTEXT = {"user_id": 7, "site": "site-1.example", "clicked_ads": ["ad1", "ad2"]}
CANDIDATES = [{"ad_id": f"ad{i % 60}", "price": None if i % 7 == 0 else i / 10} for i in range(200)]
ITEMS = {f"c{i}": candidate for i, candidate in enumerate(CANDIDATES)}


def predicted(server: Server, rows: list[dict[str, Any]], context: dict[str, Any] = CONTEXT) -> list[float]:
    answer = server.client.post("/predict", json={"instances": [{**context, **row} for row in rows]})
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
    with serving(tmp_path, hot_bytes=hot_bytes, max_rows=len(CANDIDATES)) as server:
        expected = predicted(server, CANDIDATES)
        for context in (
            {},
            {"user_id": -5, "clicked_ads": []},
            {**CONTEXT, "site": "?", "clicked_ads": ["?", "ad2"] * 4},
        ):
            answer = server.client.post("/rank", json={"context": context, "candidates": CANDIDATES}).json()
            check_ranking(answer, predicted(server, CANDIDATES, context), len(CANDIDATES))
        body = {"context": CONTEXT, "candidates": CANDIDATES}
        check_ranking(server.client.post("/rank", json=body).json(), expected, len(CANDIDATES))
        check_ranking(server.client.post("/rank", json={**body, "top_k": 5}).json(), expected, 5)
        check_ranking(server.client.post("/rank", json={**body, "top_k": 10**6}).json(), expected, len(CANDIDATES))
        assert server.client.post("/rank", json={"candidates": [{}] * (len(CANDIDATES) + 1)}).status_code == 422
        unset = server.client.put("/catalog", json={"items": ITEMS})
        assert (unset.status_code, unset.json()["code"]) == (409, "no_catalog")
        path = server.client.get("/openapi.json").json()["paths"]["/rank"]["post"]
        example = path["requestBody"]["content"]["application/json"]["example"]
        assert server.client.post("/rank", json=example).status_code == 200
        shared = {"context": {**CONTEXT, "price": 3.5}, "candidates": [{"ad_id": "ad1", "colour": 1}, {"price": 9}]}
        answer = server.client.post("/rank", json=shared).json()
        check_ranking(answer, predicted(server, [{"ad_id": "ad1", "price": 3.5}, {"price": 9}]), 2)
        assert (answer["missing"], answer["unknown_fields"]) == ({"ad_id": 1}, {"colour": 1})
        refused = server.client.post("/rank", json={"candidates": [{}, {"user_id": 7}]})
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "user_id")


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
        assert server.client.put("/catalog", json={"items": {}}).json() == {"items": 0}
