"""``ctrserve.load``: frames of any library, and the service's own probabilities."""

import json
from pathlib import Path

import numpy as np
import pytest

import ctrserve
from models.errors import ModelsError
from tests.making import make_log, request_columns
from tests.server import serving


@pytest.fixture(scope="module")
def model(artifacts: Path) -> ctrserve.Model:
    return ctrserve.load(artifacts)


def test_predictions_are_the_services_to_the_bit_for_every_kind_of_frame(
    model: ctrserve.Model, artifacts: Path
) -> None:
    log = make_log(300, seed=3).frame
    columns = request_columns(log)
    with serving(artifacts) as server:
        served = server.client.post("/predict", json={"inputs": columns}).json()["predictions"]
    for frame in (log, log.lazy(), log.to_pandas(), log.to_arrow(), columns):
        assert model.predict(frame).tolist() == served


def test_a_field_without_a_column_is_missing_and_other_columns_are_ignored(model: ctrserve.Model) -> None:
    whole = {"user_id": [7], "site": [None], "clicked_ads": [None], "ad_id": ["ad3"], "price": [None]}
    assert model.predict({"user_id": [7], "ad_id": ["ad3"], "colour": ["red"]}) == model.predict(whole)


@pytest.mark.parametrize("frame", [3, {"colour": ["red"]}, {"price": ["x"]}, {"price": [1.0], "site": ["a", "b"]}])
def test_what_is_no_frame_of_the_model_is_refused(model: ctrserve.Model, frame: object) -> None:
    with pytest.raises(ModelsError):
        model.predict(frame)


def test_an_artifact_is_loaded_by_its_own_directory_too(model: ctrserve.Model, artifacts: Path) -> None:
    one = ctrserve.load(artifacts / "v1")
    assert (one.version, model.version) == ("v1", "v1")
    assert np.array_equal(one.artifact.table, model.artifact.table)


def test_a_path_without_an_artifact_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(ModelsError, match=f"{tmp_path}: no artifact there; expected a directory of artifacts"):
        ctrserve.load(tmp_path)


def test_an_explanation_is_what_the_service_answers(model: ctrserve.Model, artifacts: Path) -> None:
    columns = request_columns(make_log(20, seed=4).frame)
    with serving(artifacts) as server:
        served = server.client.post("/explain", json={"inputs": columns}).json()
    found = model.explain(columns)
    assert json.loads(json.dumps(found)) == served
    assert [e["probability"] for e in found["explanations"]] == model.predict(columns).tolist()
