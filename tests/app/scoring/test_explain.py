"""``/explain`` against ``/predict``, its bounds, and that it takes no room from requests that are scored."""

import asyncio
import math
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

from app.observability.metrics import Telemetry
from app.problems import Problem
from app.scoring.explain import MAX_ROWS, ExplainQueue
from app.scoring.served_model import ServedModel, make_served_model
from models.artifact.artifact import load_artifact
from models.features.request_reader import keep_cpu
from tests.server import Server, serving

ROW: dict[str, Any] = {"user_id": 7, "site": "site-1.example", "clicked_ads": ["ad1", "?"], "ad_id": "ad3", "price": 1}
BODY = b'{"inputs": {"ad_id": ["ad1", "ad2"]}}'


@pytest.fixture(scope="module")
def server(artifacts: Path) -> Iterator[Server]:
    with serving(artifacts) as running:
        yield running


def test_an_explanation_is_of_the_probability_that_predict_answers(server: Server) -> None:
    rows = [ROW, {}, {**ROW, "ad_id": "nobody yet", "colour": 1}] + [{**ROW, "price": i} for i in range(97)]
    before = server.metric("ctr_rows_total")
    for body in ({"instances": rows}, {"inputs": {"ad_id": ["ad1", "ad2", None], "user_id": [1, 2, 3]}}):
        predicted = server.client.post("/predict", json=body).json()
        answer = server.client.post("/explain", json=body).json()
        explanations = answer["explanations"]
        assert [e["probability"] for e in explanations] == predicted["predictions"]
        assert answer["model_version"] == predicted["model_version"]
        assert answer.get("unknown_fields") == predicted.get("unknown_fields")
        for e in explanations:
            parts = [e["bias"], *e["first_order"], *e["second_order"], *e["deep"], e["residual"], e["calibration"]]
            assert 1 / (1 + math.exp(-sum(parts))) == pytest.approx(e["probability"], rel=1e-9)
            assert abs(e["residual"]) <= 1e-5
    assert server.metric("ctr_rows_total") == before + 103, "explanations are not counted as impressions"
    assert explanations[0]["missing"] == ["site", "clicked_ads", "price"]


def test_rows_and_time_are_bounded_and_bodies_are_refused_as_by_predict(server: Server) -> None:
    answer = server.client.post("/explain", json={"instances": [{}] * (MAX_ROWS + 1)})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    wrong = {"instances": [{**ROW, "price": "x"}]}
    refusals = [server.client.post(path, json=wrong).json() for path in ("/explain", "/predict")]
    assert refusals[0]["errors"] == refusals[1]["errors"]
    late = server.client.post("/explain", json={"instances": [ROW]}, headers={"x-request-timeout-ms": "0"})
    assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")


@pytest.fixture(scope="module")
def model(artifacts: Path) -> ServedModel:
    source: Any = None  # rows come from the artifact's own table
    return make_served_model(load_artifact(artifacts / "v1"), source, 10, Telemetry(), keep_cpu)


def test_requests_are_explained_one_after_the_other_while_the_event_loop_goes_on(model: ServedModel) -> None:
    async def ask() -> tuple[list[bytes], int]:
        queue, turns = ExplainQueue(lambda: model), 0
        answers = [asyncio.ensure_future(queue.answer(BODY, math.inf)) for _ in range(3)]
        while not all(answer.done() for answer in answers):
            await asyncio.sleep(0)
            turns += 1
        return [answer.result() for answer in answers], turns

    answers, turns = asyncio.run(ask())
    assert len(set(answers)) == 1
    assert turns > 3


def test_a_deadline_that_passes_while_others_are_explained_is_kept(model: ServedModel) -> None:
    async def ask() -> None:
        queue = ExplainQueue(lambda: model)
        first = asyncio.ensure_future(queue.answer(BODY, math.inf))
        with pytest.raises(Problem, match="deadline_exceeded"):
            await queue.answer(BODY, perf_counter())
        await first

    asyncio.run(ask())
