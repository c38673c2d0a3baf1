"""``ctrserve score`` as a person and a machine meet it."""

import json
from pathlib import Path

import polars as pl
import pytest

from ctrserve.__main__ import main
from tests.making import make_log


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.parquet"
    make_log(500).write_parquet(path)
    return path


def test_a_result_for_a_person_and_for_a_machine(
    artifacts: Path, log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = log.with_name("scores.parquet")
    command = [
        "score",
        "--data",
        str(log),
        "--artifact",
        str(artifacts),
        "--keep",
        "user_id",
        "ad_id",
        "--out",
        str(out),
    ]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["model_version"], found["metrics"]["rows"]) == (500, "v1", 500)
    assert pl.read_parquet(out).columns == ["user_id", "ad_id", "probability", "model_version"]
    assert "Scored log" in Path(found["report"]).read_text()
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "this log" in said
    assert f"scores    {out}: 500 rows by v1" in said
    assert sorted(path.name for path in out.parent.iterdir()) == ["log.parquet", "scores.html", "scores.parquet"]


def test_an_interrupt_says_how_to_go_on(
    artifacts: Path, log: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(bar: object, done: int, total: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("models.pipeline.progress.RowsBar.__call__", stop)
    command = ["score", "--data", str(log), "--artifact", str(artifacts), "--out", str(log.with_name("s.csv"))]
    assert main(command) == 130
    assert capsys.readouterr().err == "stopped; the same command goes on from the last complete part\n"
