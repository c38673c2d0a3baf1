"""``<root>/current``: one line with the version to serve and the SHA-256 of its manifest, replaced by rename."""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from pathlib import Path
from typing import NamedTuple

from models.artifact.manifest import MANIFEST, MAX_MANIFEST_BYTES, VERSION_PATTERN
from models.artifact.verified_file import read_plain
from models.errors import ArtifactError

CURRENT = "current"
MAX_CURRENT_BYTES = 256
LINE = re.compile(rf"({VERSION_PATTERN.strip('^$')})(?: ([0-9a-f]{{64}}))?")


class Current(NamedTuple):
    """The version to serve.

    ``manifest_sha256`` is ``None`` where the line has the version alone, as one written by hand may: its manifest is then
    not compared.
    """

    version: str
    manifest_sha256: str | None = None


def set_current(root: Path, model_version: str) -> None:
    """Make an artifact the one to serve. Readers see the old line or the new one, never half of one.

    Raises:
        ArtifactError: it has no manifest.
    """
    manifest = read_plain(root / model_version / MANIFEST, MAX_MANIFEST_BYTES)
    temporary = root / f".tmp-{uuid.uuid4().hex}"
    temporary.write_text(f"{model_version} {hashlib.sha256(manifest).hexdigest()}\n", encoding="ascii")
    sync(temporary)
    temporary.rename(root / CURRENT)
    sync(root)


def read_current(root: Path) -> Current:
    """Return what ``<root>/current`` names.

    Raises:
        ArtifactError: ``missing`` when there is none yet; ``path`` when it is not a plain file, or does not hold the name
            of a version.
        OSError: it cannot be read now.
    """
    try:
        content = read_plain(root / CURRENT, MAX_CURRENT_BYTES)
    except ArtifactError as error:
        if error.reason == "missing":
            raise ArtifactError("missing", f"no artifact yet: {root.name}/{CURRENT} does not exist") from error
        raise ArtifactError("path", str(error)) from error
    found = LINE.fullmatch(content.decode("ascii", "replace").strip())
    if found is None:
        raise ArtifactError("path", f"{CURRENT}: does not hold the name of a version")
    return Current(found[1], found[2])


class Found(NamedTuple):
    """An artifact to load: the directory of artifacts that it is in, and which of them."""

    root: Path
    current: Current

    @property
    def directory(self) -> Path:
        """The artifact's own directory."""
        return self.root / self.current.version


def find_artifact(path: Path) -> Found:
    """Return the artifact that a path stands for: the directory of one, or the current one of a directory of artifacts.

    Raises:
        ArtifactError: as `read_current`, saying what was expected.
        OSError: as `read_current`.
    """
    if is_artifact(path):
        directory = path.resolve()
        return Found(directory.parent, Current(directory.name))
    if path.is_dir():
        try:
            return Found(path, read_current(path))
        except ArtifactError as error:
            if error.reason != "missing":
                raise
    expected = f"expected a directory of artifacts, with a file '{CURRENT}', or of one, with '{MANIFEST}'"
    raise ArtifactError("missing", f"{path}: no artifact there; {expected}")


def is_artifact(path: Path) -> bool:
    """Whether a path is the directory of an artifact; it need not be a good one."""
    return (path / MANIFEST).is_file()


def sync(path: Path) -> None:
    """Write a file or directory through to the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
