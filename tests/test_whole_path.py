"""Log → artifact → server, and back: what training reported is what the server answers."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from models.artifact.artifact import load_artifact
from models.artifact.golden_rows import raw_rows
from models.artifact.manifest import FILES, OPTIONAL_FILES
from models.data.chunk_encoder import encode_frame
from models.data.impressions import TIME, read_frame
from models.data.split import Parts, split_rows
from models.data.time_format import with_time_format
from models.evaluation.metrics import evaluate
from models.schema.feature_schema import FeatureSchema, load_schema
from models.simulator.__main__ import main as simulate
from models.train import main as train_cli
from tests.making import current_artifact
from tests.server import serving

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"
QUICK = ["--epochs", "1", "--embedding-dim", "4", "--hidden", "16", "--batch-size", "512"]


def shared(name: str) -> Path:
    """Return a shared data file; skip visibly without it, fail under CI."""
    path = SHARED / name
    if not path.exists():
        if os.environ.get("CI"):
            pytest.fail(f"CI needs the shared data: {name}")
        pytest.skip(f"needs the shared data: {name}")
    return path


def parts_of(log: pl.DataFrame, schema: FeatureSchema, seed: int) -> Parts:
    times = None if schema.split.column is None else log[TIME]
    return split_rows(log[schema.label].to_numpy(), times, schema, seed)


def serve_test_part(patterns: list[str], schema_path: Path, artifacts: Path, seed: int = 7) -> None:
    """Ask a real server for every impression of the test part and compare with the artifact's own predictor and metrics."""
    schema = load_schema(schema_path)
    schema = with_time_format(patterns, schema)
    log = read_frame(patterns, schema)
    test = log[parts_of(log, schema, seed).test]
    artifact = load_artifact(current_artifact(artifacts))
    rows = raw_rows(artifact.schema, test)
    # What training scored when it wrote its report, through bulk encoding of the frame.
    batch = encode_frame(artifact.encoder, test).unpack()
    own = artifact.predictor.probabilities(artifact.predictor.score_table(batch, artifact.table))
    served: list[float] = []
    with serving(artifacts) as server:
        for start in range(0, len(rows), 1_000):
            answer = server.client.post("/predict", json={"instances": rows[start : start + 1_000]})
            assert answer.status_code == 200, answer.text
            served += answer.json()["predictions"]
    assert np.abs(np.array(served) - own).max() <= 1e-6
    reported = artifact.manifest.metrics["test"]
    again = evaluate(test[schema.label].to_numpy(), np.array(served))
    assert again.log_loss == pytest.approx(reported["log_loss"], abs=1e-6)
    assert again.auc == pytest.approx(reported["auc"], abs=1e-6)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("simulated") / "logs"
    simulate(["--rows", "20000", "--days", "5", "--seed", "3", "--base-rate", "0.2", "--out", str(out)])
    return out


@pytest.fixture(scope="module")
def command(simulated: Path) -> list[str]:
    """The arguments that name the simulated log."""
    return ["--data", str(simulated / "impressions-*.parquet"), "--schema", str(simulated / "schema.toml")]


@pytest.fixture(scope="module")
def trained(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained")
    assert train_cli([*command, "--out", str(out), "--epochs", "3"]) == 0
    return out


@pytest.fixture(scope="module")
def quick(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("quick")
    assert train_cli([*command, *QUICK, "--require", "auc>=0.5,log_loss<=0.7", "--out", str(out)]) == 0
    return out


def test_a_simulated_log_trains_and_serves_what_training_reported(simulated: Path, trained: Path) -> None:
    serve_test_part([str(simulated / "impressions-*.parquet")], simulated / "schema.toml", trained)


@pytest.mark.parametrize("name", ["kuairand/impressions.parquet", "criteo_sample/train.tsv"])
def test_a_public_log_trains_and_serves_what_training_reported(tmp_path: Path, name: str) -> None:
    log, schema = shared(name), ROOT / "examples" / f"{name.split('/')[0].removesuffix('_sample')}.toml"
    if log.suffix == ".parquet":  # a tenth of it, of all days
        log = tmp_path / "impressions.parquet"
        pl.read_parquet(shared(name)).gather_every(10).write_parquet(log)
    assert train_cli(["--data", str(log), "--schema", str(schema), "--out", str(tmp_path / "out"), *QUICK]) == 0
    serve_test_part([str(log)], schema, tmp_path / "out")


def test_the_same_command_and_that_of_the_model_card_write_the_same_model(
    simulated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "my log"
    log.symlink_to(simulated)
    command = ["--data", str(log / "impressions-*.parquet"), "--schema", str(log / "schema.toml")]
    command += ["--out", str(tmp_path / "artifacts"), *QUICK]
    directories: list[Path] = []
    for name in ("first", "pasted"):
        assert train_cli(command) == 0
        directories.append(current_artifact(tmp_path / "artifacts").rename(tmp_path / name))
        card = (directories[-1] / "model_card.md").read_text(encoding="utf-8")
        module, *command = shlex.split(card.split("```")[1])[2:]
        assert module == "models.train"
        out = capsys.readouterr().out
        assert "test" in out
        assert "report.html" in out
    for name in {*FILES, *OPTIONAL_FILES} - {"report.html", "model_card.md"}:
        assert (directories[0] / name).read_bytes() == (directories[1] / name).read_bytes(), name


def test_without_a_schema_one_is_inferred_explained_and_written(
    simulated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    patterns = str(simulated / "impressions-*.parquet")
    assert train_cli(["--data", patterns, "--label", "click", "--out", str(tmp_path), *QUICK]) == 0
    said = capsys.readouterr().err
    schema = load_schema(tmp_path / "schema.toml")
    kinds = {f.name: (f.kind, f.vocabulary) for f in schema.fields}
    assert kinds["user_id"] == ("categorical", None)
    assert kinds["clicked_ads"] == ("sequence", "ad_id")
    assert kinds["price"] == ("numeric", None)
    assert schema.split.column == "time"
    assert schema.group == "user_id"
    assert "the time that the rows are split by" in said
    serve_test_part([patterns], tmp_path / "schema.toml", tmp_path)


def test_calibrated_probabilities_are_near_the_truth(simulated: Path, trained: Path) -> None:
    patterns, schema_path = [str(simulated / "impressions-*.parquet")], simulated / "schema.toml"
    schema = with_time_format(patterns, load_schema(schema_path))
    log = read_frame(patterns, schema)
    truth = pl.concat([pl.read_parquet(p) for p in sorted(simulated.glob("truth-*.parquet"))])[
        "true_probability"
    ].to_numpy()
    test = parts_of(log, schema, 7).test
    artifact = load_artifact(current_artifact(trained))
    p = artifact.predictor.probabilities(
        artifact.predictor.score_table(encode_frame(artifact.encoder, log[test]).unpack(), artifact.table)
    )
    base = np.abs(truth[test] - truth[test].mean()).mean()
    assert p.mean() == pytest.approx(truth[test].mean(), rel=0.15)
    assert np.abs(p - truth[test]).mean() < 0.9 * base


def test_the_service_undoes_dropped_negatives(tmp_path: Path) -> None:
    logs, out = tmp_path / "logs", tmp_path / "artifacts"
    options = "--rows 30000 --days 5 --seed 5 --base-rate 0.1 --negatives-kept 0.25"
    simulate([*options.split(), "--out", str(logs)])
    patterns, schema = [str(logs / "impressions-*.parquet")], load_schema(logs / "schema.toml")
    assert schema.negatives_kept == 0.25
    assert train_cli(["--data", *patterns, "--schema", str(logs / "schema.toml"), "--out", str(out)]) == 0
    schema = with_time_format(patterns, schema)
    log = read_frame(patterns, schema)
    truth = pl.concat([pl.read_parquet(p) for p in sorted(logs.glob("truth-*.parquet"))])["true_probability"].to_numpy()
    test = parts_of(log, schema, 7).test
    rows = raw_rows(load_artifact(current_artifact(out)).schema, log[test[:2_000]])
    with serving(out) as server:
        served = server.client.post("/predict", json={"instances": rows}).json()["predictions"]
    # Rows were kept by their label, so each stands for as many as were dropped with it.
    clicks = log["click"].to_numpy()[test[:2_000]]
    stands_for = np.where(clicks == 1, 1, 1 / 0.25)
    assert np.average(served, weights=stands_for) == pytest.approx(
        np.average(truth[test[:2_000]], weights=stands_for), rel=0.2
    )
    assert clicks.mean() > 2 * np.average(served, weights=stands_for)  # which an uncorrected model would predict


def test_errors_on_the_command_line_are_one_line(
    simulated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    patterns, schema = str(simulated / "impressions-*.parquet"), str(simulated / "schema.toml")
    for arguments, message in (
        (["--data", "nothing*.csv", "--schema", schema], "nothing*.csv: no such file"),
        (["--data", patterns, "--schema", "nothing.toml"], "nothing.toml: cannot be read"),
        (["--data", patterns], "give --schema FILE, or --label COLUMN"),
        (["--data", patterns, "--label", "clicks"], "column 'clicks' is missing"),
        (
            ["--data", patterns, "--schema", schema, "--epochs", "0"],
            "epochs: Input should be greater than or equal to 1",
        ),
    ):
        assert train_cli([*arguments, "--out", str(tmp_path)]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert message in said
        assert len(said.splitlines()) == 1


@pytest.mark.parametrize(("shard_rows", "num_checkpoints"), [("5000", 1), ("1000000", 2)], ids=["fit", "refit"])
def test_a_killed_run_resumes_to_the_same_bytes(
    command: list[str], tmp_path: Path, shard_rows: str, num_checkpoints: int
) -> None:
    options = [*command, *QUICK, "--epochs", "4", "--batch-size", "256", "--shard-rows", shard_rows]
    assert train_cli([*options, "--out", str(tmp_path / "whole")]) == 0
    out = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "models.train", *options, "--out", str(out)], cwd=ROOT, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while len(list(out.glob(".checkpoint-*.safetensors"))) < num_checkpoints and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert len(list(out.glob(".checkpoint-*.safetensors"))) == num_checkpoints
    assert not (out / "current").exists()
    assert train_cli([*options, "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {"current", current_artifact(out).name}
    whole, resumed = (current_artifact(d) for d in (tmp_path / "whole", out))
    for name in ("embeddings.safetensors", "head.safetensors", "calibration.json", "golden.json"):
        assert (whole / name).read_bytes() == (resumed / name).read_bytes(), name


def test_a_refit_changes_the_model_but_not_the_validation_metrics(
    command: list[str], quick: Path, tmp_path: Path
) -> None:
    assert train_cli([*command, *QUICK, "--no-refit", "--out", str(tmp_path)]) == 0
    artifacts = [load_artifact(current_artifact(root)) for root in (tmp_path, quick)]
    plain, refitted = artifacts
    rows = plain.manifest.data.rows
    assert refitted.manifest.metrics["validation"] == plain.manifest.metrics["validation"]
    assert refitted.predictor.calibration == plain.predictor.calibration
    assert refitted.manifest.metrics["test"] != plain.manifest.metrics["test"]
    assert not np.array_equal(refitted.table, plain.table)
    first = next(i for i, field in enumerate(plain.schema.features.fields) if field.kind != "sequence")
    start, end = plain.encoder.block_starts[first], [*plain.encoder.block_starts, len(plain.table)][first + 1]
    seen = [int(a.counts[start:end].sum()) for a in artifacts]
    assert seen == [rows["train"], rows["train"] + rows["validation"]]


def test_a_model_that_misses_a_requirement_is_written_but_not_served(
    command: list[str], quick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Path(shutil.copytree(quick, tmp_path / "out"))
    missed = [*command, *QUICK, "--seed", "8", "--require", "auc>=0.5,log_loss<=0.1", "--out", str(out)]
    assert train_cli(missed) == 3
    assert "not served: log_loss is 0." in capsys.readouterr().err
    assert (out / "current").read_text() == (quick / "current").read_text()
    assert len(list(out.glob("*/manifest.json"))) == 2
