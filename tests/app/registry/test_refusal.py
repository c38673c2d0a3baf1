"""When a refused version is looked at again, on a clock that the tests turn."""

import shutil
from pathlib import Path

import pytest

from app.registry.refusal import LAST_RETRY_S, Refusal, stamps_of
from models.artifact.current import Current
from models.errors import ArtifactError, ArtifactReason
from tests.making import make_artifact

V1 = Current("v1")
now_s = 100.0


def clock() -> float:
    return now_s


def refuse(root: Path, reason: ArtifactReason, before: Refusal | None = None) -> Refusal:
    return Refusal(root, V1, stamps_of(root, V1), ArtifactError(reason, "no"), before, clock)


@pytest.fixture(autouse=True)
def _start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.now_s", 100.0)


def turn_clock(seconds: float) -> None:
    global now_s
    now_s += seconds


@pytest.mark.parametrize("reason", ["missing", "failed"])
def test_a_passing_reason_is_due_after_pauses_that_double_up_to_a_minute(
    tmp_path: Path, reason: ArtifactReason
) -> None:
    refusal, pauses = None, []
    for _ in range(9):
        refusal = refuse(tmp_path, reason, refusal)
        pause_s = 0.0
        while not refusal.is_due():
            turn_clock(0.5)
            pause_s += 0.5
        pauses.append(pause_s)
    assert pauses == [1, 2, 4, 8, 16, 32, LAST_RETRY_S, LAST_RETRY_S, LAST_RETRY_S]


@pytest.mark.parametrize(
    "reason", ["path", "size", "manifest", "format_version", "sha256", "shape", "finite", "golden"]
)
def test_damage_is_due_only_when_a_file_changes(tmp_path: Path, reason: ArtifactReason) -> None:
    directory = make_artifact(tmp_path)
    refusal = refuse(tmp_path, reason)
    turn_clock(1e6)
    assert not refusal.is_due()
    for path in sorted(directory.iterdir()):
        content = path.read_bytes()
        path.unlink()
        assert refusal.is_due()
        refusal = refuse(tmp_path, reason)
        path.write_bytes(content)
        assert refusal.is_due()
        refusal = refuse(tmp_path, reason)
        assert not refusal.is_due()


def test_a_directory_that_is_replaced_is_due_at_once_and_begins_with_short_pauses(tmp_path: Path) -> None:
    first = refuse(tmp_path, "failed")
    later = refuse(tmp_path, "failed", first)
    directory = make_artifact(tmp_path)
    assert later.is_due()
    again = refuse(tmp_path, "failed", later)
    turn_clock(1)
    assert again.is_due()
    copy = shutil.copytree(directory, tmp_path / "copy")
    damaged = refuse(tmp_path, "sha256")
    directory.rename(tmp_path / "old")
    Path(copy).rename(directory)
    assert damaged.is_due()
