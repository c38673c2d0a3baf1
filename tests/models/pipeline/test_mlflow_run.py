"""``train --mlflow`` against a tracking store on disk."""

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

import ctrserve
from models.train import main as train
from tests.making import train_command

pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of MLflow and what it uses
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # in maintenance, but what needs no database
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "ads")
    return (tmp_path / "mlruns").as_uri()


def runs(store: str) -> list[Any]:
    client = importlib.import_module("mlflow").MlflowClient(tracking_uri=store)
    experiment = client.get_experiment_by_name("ads")
    return list(client.search_runs([experiment.experiment_id]))


def test_a_run_has_parameters_metrics_the_report_and_an_artifact_that_loads(store: str, tmp_path: Path) -> None:
    assert train([*train_command(tmp_path), "--no-refit", "--mlflow", store]) == 0
    (run,) = runs(store)
    model = ctrserve.load(tmp_path / "out")
    assert run.info.status == "FINISHED"
    assert (run.data.params["model.hidden"], run.data.params["epochs"], run.data.params["seed"]) == ("[8]", "1", "7")
    metrics = model.artifact.manifest.metrics["test"]
    assert run.data.metrics["test.log_loss"] == metrics["log_loss"]
    assert run.data.metrics["epoch.train_log_loss"] > 0
    assert run.data.tags["model_version"] == model.version
    artifacts = Path(run.info.artifact_uri.removeprefix("file://"))
    assert (artifacts / "report.html").read_text() == (tmp_path / "out" / model.version / "report.html").read_text()
    assert ctrserve.load(artifacts / "artifacts" / model.version).version == model.version


def test_a_training_that_fails_is_a_failed_run(store: str, tmp_path: Path) -> None:
    command = [*train_command(tmp_path), "--mlflow", store, "--init-from", str(tmp_path / "none")]
    assert train(command) == 2
    (run,) = runs(store)
    assert run.info.status == "FAILED"


def test_a_wrong_address_is_one_line_before_any_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train([*train_command(tmp_path), "--mlflow", "gopher://nowhere"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: --mlflow: ")
    assert said.count("\n") == 1
    assert not list((tmp_path / "out").glob("2*"))


def test_without_the_extra_it_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "models.pipeline.mlflow_run", raising=False)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert train([*train_command(tmp_path), "--mlflow", "sqlite://"]) == 2
    assert capsys.readouterr().err == "error: this needs the extra 'mlflow': pip install 'ctrserve[mlflow]'\n"
