"""``ctrserve.load``: frames of any library, and the service's own probabilities."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import ctrserve
from models.errors import ModelsError
from tests.making import make_artifact, make_log, request_columns
from tests.server import Server, serving


@pytest.fixture(scope="module")
def model(artifacts: Path) -> ctrserve.Model:
    return ctrserve.load(artifacts)


@pytest.fixture(scope="module")
def server(artifacts: Path) -> Iterator[Server]:
    with serving(artifacts) as running:
        yield running


def test_predictions_are_the_services_to_the_bit_for_every_kind_of_frame(model: ctrserve.Model, server: Server) -> None:
    log = make_log(300, seed=3)
    columns = request_columns(log)
    with ctrserve.Client(str(server.client.base_url)) as client:
        answer = client.predict(columns)
        assert client.is_ready()
        assert client.model()["model_version"] == answer.model_version == "v1"
        ranking = client.rank({"user_id": 7}, [{"ad_id": "ad1"}, {"ad_id": "ad2"}], top_k=1)
        assert len(ranking.indices) == len(ranking.probabilities) == 1
    served = answer.probabilities
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


def test_an_explanation_is_what_the_service_answers(model: ctrserve.Model, server: Server) -> None:
    columns = request_columns(make_log(20, seed=4))
    with ctrserve.Client(str(server.client.base_url)) as client:
        served = client.explain(columns)
    found = model.explain(columns)
    assert json.loads(json.dumps(found)) == served
    assert [e["probability"] for e in found["explanations"]] == model.predict(columns).tolist()


def test_embeddings_are_the_tables_rows_by_token(model: ctrserve.Model) -> None:
    found = model.embeddings("ad_id")
    assert model.embeddings("clicked_ads")["token"].equals(found["token"])
    assert found.column_names == ["token", "impressions", "first_order", "vector"]
    tokens = found["token"].to_pylist()
    (encoded,) = model.artifact.encoder.side("candidate").encode([[tokens[3]], [None]]).ids[:1].tolist()
    row = model.artifact.table[encoded]
    assert found["vector"][3].as_py() == row[:-1].tolist()
    assert found["first_order"][3].as_py() == row[-1]
    users = model.embeddings("user_id")
    assert users["impressions"].to_pylist() == sorted(users["impressions"].to_pylist(), reverse=True)
    assert users["token"].type == "int64"
    for field, message in (("price", "it is a number"), ("colour", "no field 'colour'")):
        with pytest.raises(ModelsError, match=message):
            model.embeddings(field)


def test_a_notebook_shows_fields_and_metrics_in_a_frame_of_their_own(model: ctrserve.Model) -> None:
    shown = model._repr_html_()
    assert shown.startswith("<iframe srcdoc=")
    assert "clicked_ads" in shown
    assert model.report.html == "<!doctype html>"
    assert model.schema.label == "click"
    assert "v1" in repr(model)


def test_a_report_that_was_changed_is_refused(tmp_path: Path) -> None:
    directory = make_artifact(tmp_path)
    changed = ctrserve.load(tmp_path)
    (directory / "report.html").write_text("<!doctype htmk>")
    with pytest.raises(ModelsError, match="is not the file that was written"):
        _ = changed.report


def test_what_the_package_offers_is_there() -> None:
    assert all(getattr(ctrserve, name) is not None for name in ctrserve.__all__)
    with pytest.raises(AttributeError):
        _ = ctrserve.nothing


@pytest.mark.parametrize(
    ("library", "module", "ask", "extra"),
    [
        ("polars", "models.data.frames", lambda model: model.predict({"user_id": [7]}), "train"),
        ("pyarrow", "pyarrow", lambda model: model.embeddings("ad_id"), "arrow"),
        ("httpx", "ctrserve.client", lambda model: ctrserve.Client, "client"),
    ],
)
def test_a_library_that_is_not_installed_is_named_with_its_extra(
    artifacts: Path,
    monkeypatch: pytest.MonkeyPatch,
    library: str,
    module: str,
    ask: Callable[[ctrserve.Model], object],
    extra: str,
) -> None:
    model = ctrserve.load(artifacts)
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises((ModelsError, ModuleNotFoundError), match=f"ctrserve\\[{extra}\\]"):
        ask(model)
