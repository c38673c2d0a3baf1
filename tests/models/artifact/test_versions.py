"""Versions in a directory of artifacts: listed, promoted after verification, removed by a policy."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from models.artifact.current import read_current
from models.artifact.versions import find_version, list_versions, promote, removable, remove, version_before
from models.errors import ArtifactError
from tests.making import make_artifact


def made(root: Path, name: str, created: str) -> None:
    """Write a version of a given time, not verifiable by a digest of its manifest."""
    path = make_artifact(root, name) / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"created": created}))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for day, name in enumerate(("b", "a", "c"), 1):
        made(tmp_path, name, f"2026-01-0{day}T00:00:00+00:00")
    return tmp_path


def names(root: Path) -> list[str]:
    return [version.name for version in list_versions(root)]


def test_versions_are_listed_the_newest_first_and_other_directories_are_not(root: Path) -> None:
    (root / "schema.toml").touch()
    (root / ".tmp-1").mkdir()
    (root / "empty").mkdir()
    assert names(root) == ["c", "a", "b"]
    assert [version.name for version in list_versions(root) if version.is_current] == ["c"]
    (root / "a" / "manifest.json").write_text("{}")
    broken = find_version(root, "a")
    assert broken.manifest is None
    assert broken.fault is not None
    assert broken.fault.startswith("manifest: ")


def test_a_version_is_verified_before_it_becomes_the_current_one(root: Path) -> None:
    assert version_before(root) == "a"
    promote(root, "a")
    assert read_current(root).version == "a"
    assert version_before(root) == "b"
    (root / "b" / "golden.json").write_text("{}")
    for name in ("b", "d", "../c", ""):
        with pytest.raises(ArtifactError):
            promote(root, name)
    assert read_current(root).version == "a"


def test_nothing_is_older_than_the_oldest(root: Path) -> None:
    promote(root, "b")
    with pytest.raises(ArtifactError, match="no version is older"):
        version_before(root)


def test_a_policy_keeps_the_newest_the_current_and_the_young(root: Path) -> None:
    promote(root, "b")
    assert removable(root, 0) == ["c", "a"]
    assert removable(root, 1) == ["a"]
    assert removable(root, 0, timedelta(days=100_000)) == []


def test_versions_are_removed_all_or_none_and_the_current_one_never(root: Path) -> None:
    for wrong in (["a", "d"], ["a", "c"]):
        with pytest.raises(ArtifactError):
            remove(root, wrong)
        assert names(root) == ["c", "a", "b"]
    remove(root, ["a", "b"])
    assert sorted(path.name for path in root.iterdir()) == ["c", "current"]
