"""``ctrserve versions``, for a person and for a machine."""

import json
from pathlib import Path
from typing import Any

import pytest

from ctrserve.__main__ import main
from models.artifact.current import read_current
from tests.making import make_artifact


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_artifact(tmp_path, "v1")
    make_artifact(tmp_path, "v2", seed=1)
    return tmp_path


def ask(capsys: pytest.CaptureFixture[str], root: Path, *arguments: str) -> Any:
    assert main(["versions", *arguments, "--artifacts", str(root), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_machine_reads_json(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [(v["version"], v["current"]) for v in ask(capsys, root, "list")] == [("v2", True), ("v1", False)]
    assert ask(capsys, root, "show", "v1")["training"] == {"seed": 0}
    assert ask(capsys, root, "compare", "v1", "v2")["differences"]["seed"] == ["0", "1"]
    assert ask(capsys, root, "rollback") == {"current": "v1"}
    assert read_current(root).version == "v1"
    assert ask(capsys, root, "promote", "v2") == {"current": "v2"}
    assert ask(capsys, root, "remove", "--keep", "0", "--dry-run") == {"removed": ["v1"], "dry_run": True}
    assert ask(capsys, root, "remove", "v1") == {"removed": ["v1"], "dry_run": False}


def test_a_person_reads_tables(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["list"], ["show", "v2"], ["compare", "v1", "v2"]):
        assert main(["versions", *arguments, "--artifacts", str(root)]) == 0
        assert "v2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["promote", "v9"], "no version 'v9'"),
        (["rollback", "v9"], "no version 'v9'"),
        (["remove"], "give either the names of versions or --keep N"),
        (["remove", "v2"], "v2: is the current version"),
        (["remove", "--keep", "-1"], "--keep and --older-than: expected 0 or more"),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(
    root: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["versions", *arguments, "--artifacts", str(root)]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert read_current(root).version == "v2"
