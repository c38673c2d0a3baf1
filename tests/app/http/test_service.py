"""The service through its front door: a real process, real requests."""

import json
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from models.artifact.artifact import load_artifact
from models.artifact.golden import columns_of
from tests.server import Server, serving

ROW = {"user_id": 7, "site": "site-1.example", "clicked_ads": ["ad1", "ad2"], "ad_id": "ad3", "price": 1.5}


@pytest.fixture(scope="module")
def server(artifacts: Path) -> Iterator[Server]:
    with serving(artifacts) as running:
        yield running


def expected(artifacts: Path, rows: list[dict[str, Any]], version: str = "v1") -> list[float]:
    artifact = load_artifact(artifacts / version)
    batch = artifact.encoder.encode(columns_of(artifact.schema, rows))
    logits = artifact.predictor.score_table(batch, artifact.table)
    return [float(p) for p in artifact.predictor.probabilities(logits)]


def test_rows_and_columns_get_the_predictors_own_probabilities(server: Server, artifacts: Path) -> None:
    rows = [ROW, {**ROW, "ad_id": "never seen"}, {}, {**ROW, "price": -1e300}]
    by_row = server.client.post("/predict", json={"instances": rows}).json()
    by_column = server.client.post("/predict", json={"inputs": {k: [r.get(k) for r in rows] for k in ROW}}).json()
    assert by_row["predictions"] == pytest.approx(expected(artifacts, rows), abs=1e-9)
    assert by_row == by_column
    assert by_row["model_version"] == "v1"


def test_the_golden_rows_come_back_over_http(server: Server, artifacts: Path) -> None:
    golden = load_artifact(artifacts / "v1").golden
    answer = server.client.post("/predict", json={"instances": [dict(row) for row in golden.rows]}).json()
    np.testing.assert_allclose(answer["predictions"], golden.probabilities, atol=1e-6)


def test_what_is_missing_unseen_or_unknown_is_answered_and_counted(server: Server) -> None:
    before = {
        "missing": server.metric("ctr_missing_values_total", field="price"),
        "unseen": server.metric("ctr_unseen_values_total", field="ad_id"),
        "unknown": server.metric("ctr_unknown_fields_total"),
        "rows": server.metric("ctr_rows_total"),
    }
    rows = [
        {**ROW, "ad_id": "never seen"},
        {k: v for k, v in ROW.items() if k != "price"},
        {**ROW, "price": None, "colour": "red"},
    ]
    answer = server.client.post("/predict", json={"instances": rows}).json()
    assert answer["unseen"] == {"ad_id": 1}
    assert answer["missing"] == {"price": 2}
    assert answer["unknown_fields"] == {"colour": 1}
    assert server.metric("ctr_missing_values_total", field="price") == before["missing"] + 2
    assert server.metric("ctr_unseen_values_total", field="ad_id") == before["unseen"] + 1
    assert server.metric("ctr_unknown_fields_total") == before["unknown"] + 1
    assert server.metric("ctr_rows_total") == before["rows"] + 3


def test_health_and_model_describe_what_is_served(server: Server) -> None:
    assert server.client.get("/health/live").json() == {"status": "live"}
    assert server.client.get("/health/ready").json() == {"status": "ready", "model_version": "v1", "redis": "off"}
    model = server.client.get("/model").json()
    assert (model["model_version"], model["last_error"], model["calibration"]) == ("v1", None, "platt")
    assert model["service_version"] == metadata.version("ctrserve")
    assert {"name": "ad_id", "kind": "categorical", "side": "candidate", "dtype": "string"}.items() <= model["fields"][
        3
    ].items()


def test_the_documentation_shows_the_models_own_fields_and_a_working_example(server: Server) -> None:
    document = server.client.get("/openapi.json").json()
    body = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    assert list(document["components"]["schemas"]["Impression"]["properties"]) == list(ROW)
    answer = server.client.post("/predict", json=body["example"])
    assert answer.status_code == 200
    assert "unseen" not in answer.json()
    page = server.client.get("/docs")
    assert page.status_code == 200
    sources = [part.split('"')[0] for part in page.text.split('src="')[1:]]
    assert sources
    assert all(server.client.get(source).status_code == 200 for source in sources)


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert (body["status"], body["code"]) == (status, code)
    return body


def test_every_refusal_has_one_shape(server: Server) -> None:
    post, good = server.client.post, json.dumps({"instances": [ROW]})
    typed = {"content-type": "application/json"}
    body = problem(post("/predict", json={"instances": [ROW, {**ROW, "price": "s3cr3t"}]}), 422, "invalid_input")
    assert (body["errors"][0]["row"], body["errors"][0]["field"]) == (1, "price")
    assert "s3cr3t" not in json.dumps(body)
    problem(post("/predict", content=b"\xff", headers=typed), 422, "invalid_input")
    problem(post("/predict", content=good), 415, "unsupported_media_type")
    problem(post("/predict", content=b" " * (4 * 2**20 + 1), headers=typed), 413, "body_too_large")
    problem(server.client.get("/nothing"), 404, "not_found")
    assert "POST" in server.client.get("/predict").headers["allow"]
    problem(server.client.get("/predict"), 405, "method_not_allowed")
    assert (
        post("/predict", content=good, headers={"content-type": "application/json; charset=utf-8"}).status_code == 200
    )


def test_two_workers_answer_the_same_and_share_their_metrics(artifacts: Path) -> None:
    with serving(artifacts, workers=2) as server:
        answers = [httpx.post(f"{server.client.base_url}/predict", json={"instances": [ROW]}).json() for _ in range(40)]
        assert all(answer == answers[0] for answer in answers)
        assert server.metric("ctr_rows_total") == 40
