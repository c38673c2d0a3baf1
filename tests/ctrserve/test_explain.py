"""``ctrserve explain``: a table for people, the service's answer for machines."""

import json
from pathlib import Path

import pytest

import ctrserve
from ctrserve.__main__ import main
from tests.making import make_log


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "log.parquet"
    make_log(50).write_parquet(path)
    return path


def test_rows_are_explained_as_by_the_object(log: Path, artifacts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["explain", "--data", str(log), "--artifact", str(artifacts), "--first", "10", "--rows", "3"]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    frame = make_log(50)[10:13]
    assert found == json.loads(json.dumps(ctrserve.load(artifacts).explain(frame)))
    assert main(command) == 0
    shown = capsys.readouterr().out
    for row, explanation in enumerate(found["explanations"], 10):
        assert f"row {row}: probability {explanation['probability']:.4f} ± {explanation['standard_error']:.4f}" in shown
        assert f"{explanation['logit']:+.4f}" in shown


def test_a_row_beyond_the_end_is_one_line(log: Path, artifacts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--data", str(log), "--artifact", str(artifacts), "--first", "50"]) == 2
    assert capsys.readouterr().err == f"error: {log}: has no row 50\n"
