import os
from pathlib import Path

import numpy as np
import pytest

from models.artifact.artifact import load_artifact
from models.artifact.current import Current, read_current, set_current
from models.errors import ArtifactError
from tests.making import make_artifact


def load_current(root: Path) -> None:
    current = read_current(root)
    load_artifact(root / current.version, current.manifest_sha256)


def test_current_names_a_version_and_the_digest_of_its_manifest(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no artifact yet"):
        read_current(tmp_path)
    directory = make_artifact(tmp_path)
    version, digest = (tmp_path / "current").read_text().split()
    assert read_current(tmp_path) == Current(version, digest) == (directory.name, digest)
    load_current(tmp_path)


def test_any_flipped_bit_of_the_manifest_is_refused(tmp_path: Path) -> None:
    path = make_artifact(tmp_path) / "manifest.json"
    content = bytearray(path.read_bytes())
    for bit in np.random.default_rng(0).permutation(8 * len(content))[:400].tolist():
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match=r"manifest\.json") as refused:
            load_current(tmp_path)
        assert refused.value.reason == "sha256"
        content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    load_current(tmp_path)


def test_a_version_without_a_digest_as_written_by_hand_is_loaded(tmp_path: Path) -> None:
    make_artifact(tmp_path)
    for line in ("v1", "v1\n", " v1 \r\n"):
        (tmp_path / "current").write_text(line)
        assert read_current(tmp_path) == ("v1", None)
        load_current(tmp_path)


def test_an_artifact_without_a_manifest_does_not_become_the_current_one(tmp_path: Path) -> None:
    make_artifact(tmp_path, "v1")
    before = read_current(tmp_path)
    (make_artifact(tmp_path, "v2", current=False) / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match="no such file"):
        set_current(tmp_path, "v2")
    assert read_current(tmp_path) == before


@pytest.mark.parametrize(
    "content",
    [
        "../v1",
        "a/b",
        "",
        ".hidden",
        "x" * 65,
        "v1\nv2",
        "v1 v2",
        f"v1 {'0' * 63}",
        f"v1 {'G' * 64}",
        f"v1 {'0' * 64} x",
    ],
)
def test_current_that_does_not_hold_a_name_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "current").write_text(content)
    with pytest.raises(ArtifactError, match="name of a version") as refused:
        read_current(tmp_path)
    assert refused.value.reason == "path"


@pytest.mark.parametrize("kind", ["link", "broken link", "pipe", "directory", "device"])
def test_current_must_be_a_plain_file_and_is_never_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "current"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        (tmp_path / "elsewhere").write_text("v1")
        path.symlink_to({"link": "elsewhere", "broken link": "nowhere", "device": "/dev/zero"}[kind])
    with pytest.raises(ArtifactError, match="not a plain file") as refused:
        read_current(tmp_path)
    assert refused.value.reason == "path"
