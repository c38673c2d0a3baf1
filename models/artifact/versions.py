"""The versions in a directory of artifacts: list them, make one the current one, remove old ones."""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from models.artifact.artifact import load_artifact
from models.artifact.current import is_artifact, read_current, set_current
from models.artifact.manifest import MANIFEST, MAX_MANIFEST_BYTES, VERSION_PATTERN, Manifest, parse_manifest
from models.artifact.verified_file import read_plain
from models.errors import ArtifactError


@dataclass(frozen=True)
class Version:
    """One version.

    Args:
        name: of its directory.
        manifest: ``None`` where it cannot be read.
        fault: why not.
        size_bytes: of its files.
        is_current: whether ``current`` names it.
    """

    name: str
    manifest: Manifest | None
    fault: str | None
    size_bytes: int
    is_current: bool

    @property
    def created(self) -> str:
        """UTC, ISO 8601; empty where the manifest cannot be read."""
        return "" if self.manifest is None else self.manifest.created


def list_versions(root: Path) -> list[Version]:
    """Return the versions below ``root``, the newest first. Their files are not verified.

    Raises:
        ArtifactError: ``root`` is no directory.
    """
    if not root.is_dir():
        raise ArtifactError("missing", f"{root}: no such directory")
    current = _current_name(root)
    names = [path.name for path in root.iterdir() if re.fullmatch(VERSION_PATTERN, path.name) and is_artifact(path)]
    versions = [_version(root, name, is_current=name == current) for name in names]
    return sorted(versions, key=lambda version: (version.created, version.name), reverse=True)


def find_version(root: Path, name: str) -> Version:
    """Return one version.

    Raises:
        ArtifactError: ``missing``.
    """
    _require(root, name)
    return _version(root, name, is_current=name == _current_name(root))


def promote(root: Path, name: str) -> None:
    """Verify a version wholly and make it the current one; a running service follows.

    Raises:
        ArtifactError: there is none, or it must not be served; nothing changes then.
    """
    _require(root, name)
    load_artifact(root.resolve() / name)
    set_current(root, name)


def version_before(root: Path) -> str:
    """Return the newest version that is older than the current one.

    Raises:
        ArtifactError: ``missing``: there is no current one, or none before it.
    """
    versions = list_versions(root)
    names = [version.name for version in versions]
    current = next((version.name for version in versions if version.is_current), None)
    older = [] if current is None else names[names.index(current) + 1 :]
    if not older:
        raise ArtifactError("missing", f"{root}: no version is older than the current one; name the one that you mean")
    return older[0]


def removable(root: Path, keep: int, older_than: timedelta = timedelta(0)) -> list[str]:
    """Return the versions that a retention policy gives up, the newest first; never the current one.

    Args:
        keep: the newest so many stay, the current one beside them.
        older_than: younger ones stay.
    """
    before = (datetime.now(UTC) - older_than).isoformat()
    others = [version for version in list_versions(root) if not version.is_current]
    return [version.name for version in others[keep:] if version.created < before]


def remove(root: Path, names: Sequence[str]) -> None:
    """Remove versions. A service that serves one of them goes on: it has its files open.

    Raises:
        ArtifactError: there is none of a name, or it is the current one; nothing is removed then.
    """
    for name in names:
        _require(root, name)
        if name == _current_name(root):
            raise ArtifactError("path", f"{name}: is the current version; promote another one first")
    for name in names:
        gone = root / f".tmp-{uuid.uuid4().hex}"  # so that nobody sees half of a version
        (root / name).rename(gone)
        shutil.rmtree(gone)


def _current_name(root: Path) -> str | None:
    try:
        return read_current(root).version
    except ArtifactError:
        return None


def _require(root: Path, name: str) -> None:
    if not re.fullmatch(VERSION_PATTERN, name) or not is_artifact(root / name):
        raise ArtifactError("missing", f"{root}: no version {name[:64]!r}")


def _version(root: Path, name: str, *, is_current: bool) -> Version:
    directory = root / name
    size = sum(path.stat().st_size for path in directory.iterdir())
    try:
        manifest = parse_manifest(read_plain(directory / MANIFEST, MAX_MANIFEST_BYTES))
    except ArtifactError as error:
        return Version(name, None, f"{error.reason}: {error}", size, is_current)
    return Version(name, manifest, None, size, is_current)
