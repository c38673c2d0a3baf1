"""The command as a person meets it: help, mistakes, interrupts, folders with packages of the same names."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ctrserve.__main__ import main
from models.train import main as train

SCRIPT = Path(sys.executable).with_name("ctrserve")


COMMANDS = ["demo", "simulate", "check", "train", "score", "explain", "serve", "keys"]
COMMANDS += [f"versions {name}" for name in ("list", "show", "compare", "promote", "rollback", "remove")]


@pytest.mark.parametrize("command", ["", "versions", *COMMANDS])
def test_help_is_grouped_and_has_an_example_and_no_types(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert "Usage: ctrserve" in text
    assert not re.search(r"<bool>|<int>|<str>|<float>|None\b|SecretStr|Optional|\bnull\b", text)
    assert ("Example: " in text) == (command in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["versionz"], "No such command 'versionz'."),
        (["train"], "Missing option '--data'."),
        (["train", "--data", "x", "--seed", "-1"], "--seed: Input should be greater than or equal to 0"),
        (["train", "--data", "x", "--hidden", "8", "x"], "--hidden: Input should be a valid integer"),
        (["train", "--data", "x", "--label", "y", "--out", __file__], f"--out: {__file__} is not a directory"),
        (["train", "--data", "/no/such.csv", "--label", "y", "--out", "{}"], "/no/such.csv: no such file"),
        (["serve", "--port", "99999"], "--port: Input should be less than or equal to 65535"),
        (["serve", "--keys", "/no/such"], "/no/such: No such file or directory"),
        (["keys", "name", "everything"], "line 1 is not"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([argument.format(tmp_path) for argument in arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {message}")
    assert said.count("\n") == 1


def test_a_wrong_environment_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CTR_WORKERS", "many")
    assert main(["serve"]) == 2
    assert capsys.readouterr().err.startswith("error: CTR_WORKERS: ")


def test_a_library_of_an_extra_that_is_not_installed_is_named_with_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.delitem(sys.modules, "models.pipeline.log_to_artifact", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert train(["--data", "x", "--label", "y", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "error: this needs the extra 'train': pip install 'ctrserve[train]'\n"


def test_the_script_works_inside_a_folder_that_has_packages_of_the_same_names(tmp_path: Path) -> None:
    for name in ("app", "models", "ctrserve"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong package')")
    command = [str(SCRIPT), "simulate", "--rows", "50", "--days", "1", "--out", "logs"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "logs" / "schema.toml").exists()


@pytest.mark.parametrize("command", [["-m", "ctrserve", "train"], ["-m", "models.train"], ["-m", "models.simulator"]])
def test_an_interrupt_while_libraries_are_imported_is_quiet(command: list[str], tmp_path: Path) -> None:
    # Stands for a library that takes its time: it is interrupted as soon as it is imported.
    (tmp_path / "typer.py").write_text("import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(30)")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode, ran.stderr) == (128 + signal.SIGINT, "")


def test_a_shell_completes_commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    # What the script of --install-completion sets when a person presses Tab after "ctrserve ver".
    for name, value in {"_CTRSERVE_COMPLETE": "complete_bash", "COMP_WORDS": "ctrserve ver", "COMP_CWORD": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 0
    assert capsys.readouterr().out.split() == ["versions"]
