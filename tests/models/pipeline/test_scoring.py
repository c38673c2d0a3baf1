"""Scored files: the service's probabilities to the bit, in the log's order, whatever the files, and after an interruption."""

from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pytest

from app.wire.predict_request import PredictWire
from models.artifact.artifact import Artifact
from models.errors import LogError
from models.evaluation.metrics import evaluate
from models.pipeline import scored_assessment, scoring
from models.pipeline.scored_assessment import assess_log
from models.pipeline.scoring import score_log
from models.report.rendering import render_log_report
from tests.making import make_log, request_columns

LOG = make_log(3_000, seed=5)


def quiet(done: int, total: int) -> None:
    """No progress."""


def served(artifact: Artifact, frame: pl.DataFrame) -> list[float]:
    """Return what `/predict` answers."""
    wire = PredictWire(artifact.schema, artifact.encoder, max_rows=10_000)
    batch = wire.read(orjson.dumps({"inputs": request_columns(frame)})).batch
    probabilities: list[float] = artifact.predictor.score(batch, artifact.table.take(batch.ids, axis=0)).tolist()
    return probabilities


def write_csv(frame: pl.DataFrame, path: Path) -> None:
    frame.with_columns(pl.col("clicked_ads").list.join("|")).write_csv(path)


def test_a_scored_file_holds_what_the_service_answers_in_the_order_of_the_log(
    artifact: Artifact, tmp_path: Path
) -> None:
    LOG[:1_000].write_parquet(tmp_path / "a.parquet")
    write_csv(LOG[1_000:2_500], tmp_path / "b.csv")
    write_csv(LOG[2_500:], tmp_path / "c.csv")
    out = tmp_path / "scores.parquet"
    found = score_log(artifact, [str(tmp_path / "?.*")], out, ["ad_id", "ad_id"], quiet)
    scores = pl.read_parquet(out)
    assert scores.columns == ["ad_id", "probability", "model_version"]
    assert scores["probability"].to_list() == served(artifact, LOG)
    assert scores["ad_id"].to_list() == LOG["ad_id"].to_list()
    assert set(scores["model_version"]) == {"v1"}
    assert (found.rows, found.resumed_rows, found.missing["price"]) == (3_000, 0, LOG["price"].null_count())
    found.parts.remove()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "b.csv", "c.csv", "scores.parquet"]


def test_a_run_that_was_stopped_goes_on_and_writes_the_same_file(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "PART_ROWS", 500)
    monkeypatch.setattr("models.data.frames.CHUNK_ROWS", 250)
    for i in range(2):
        LOG[i * 1_500 : (i + 1) * 1_500].write_parquet(tmp_path / f"{i}.parquet", row_group_size=250)
    patterns = [str(tmp_path / "[01].parquet")]

    def stop(done: int, total: int) -> None:
        if done > 1_800:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_log(artifact, patterns, tmp_path / "scores.parquet", ["*"], stop)
    assert not (tmp_path / "scores.parquet").exists()
    stopped = score_log(artifact, patterns, tmp_path / "scores.parquet", ["*"], quiet)
    assert 1_500 <= stopped.resumed_rows < 2_000
    whole = score_log(artifact, patterns, tmp_path / "whole.parquet", ["*"], quiet)
    assert pl.read_parquet(tmp_path / "scores.parquet").equals(pl.read_parquet(tmp_path / "whole.parquet"))
    assert (whole.unseen, whole.missing, whole.values) == (stopped.unseen, stopped.missing, stopped.values)
    # Another job does not go on with these parts.
    assert score_log(artifact, patterns, tmp_path / "scores.parquet", [], quiet).resumed_rows == 0


def test_a_log_with_labels_gets_metrics_and_a_page(artifact: Artifact, tmp_path: Path) -> None:
    labels = LOG["click"].scatter([5, 6], None)
    LOG.with_columns(labels).write_parquet(tmp_path / "log.parquet")
    found = score_log(artifact, [str(tmp_path / "log.parquet")], tmp_path / "scores.parquet", [], quiet)
    report = assess_log(found, artifact)
    assert report is not None
    known = labels.is_not_null()
    probabilities = np.array(served(artifact, LOG.filter(known)))
    groups = LOG.filter(known)["user_id"].to_numpy()
    expected = evaluate(labels.drop_nulls().to_numpy(), probabilities, groups)
    assert report.part.metrics.model_dump() == pytest.approx(expected.model_dump())
    assert sum(m.rows for name, m in report.part.cold_starts.items() if "item" in name) == expected.rows
    page = render_log_report(report)
    assert f"{expected.log_loss:.4f}" in page
    assert "log.parquet" in page


def test_metrics_of_a_long_log_are_of_whole_groups(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scored_assessment, "MAX_ROWS", 1_000)
    LOG.write_parquet(tmp_path / "log.parquet")
    found = score_log(artifact, [str(tmp_path / "log.parquet")], tmp_path / "scores.parquet", [], quiet)
    report = assess_log(found, artifact)
    assert report is not None
    assert report.part.groups is not None
    assert 0 < report.part.metrics.rows < LOG.height
    sizes = set(np.unique(report.part.groups, return_counts=True)[1].tolist())
    assert sizes <= set(LOG["user_id"].value_counts()["count"].to_list())
    assert "1 in 3" in report.facts["rows with a label"]


@pytest.mark.parametrize(
    ("change", "out", "keep", "message"),
    [
        ({"price": ["x"]}, "s.parquet", [], "row 1, column 'price': expected a number"),
        ({"click": ["2"]}, "s.parquet", [], "row 1, column 'click': expected a label 0 or 1"),
        ({}, "s.json", [], "expected a name that ends with .parquet or .csv"),
        ({}, "none/s.csv", [], "none: no such directory"),
        ({}, "log.csv", [], "log.csv: is a file of the log"),
        ({}, "s.parquet", ["colour"], "column 'colour' is missing"),
        ({"probability": ["0.5"]}, "s.parquet", ["*"], "the log has a column 'probability'"),
    ],
)
def test_what_cannot_be_scored_is_said(
    artifact: Artifact, tmp_path: Path, change: dict[str, list[str]], out: str, keep: list[str], message: str
) -> None:
    write_csv(LOG[:1].with_columns(pl.Series(name, values) for name, values in change.items()), tmp_path / "log.csv")
    with pytest.raises(LogError, match=message):
        score_log(artifact, [str(tmp_path / "log.csv")], tmp_path / out, keep, quiet)
    assert not (tmp_path / out).exists() or out == "log.csv"


def test_lists_are_not_kept_in_csv(artifact: Artifact, tmp_path: Path) -> None:
    LOG.write_parquet(tmp_path / "log.parquet")
    with pytest.raises(LogError, match="CSV cannot hold the lists of column 'clicked_ads'"):
        score_log(artifact, [str(tmp_path / "log.parquet")], tmp_path / "s.csv", ["*"], quiet)
