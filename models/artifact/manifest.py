"""The manifest of an artifact: what was trained from what, and the digest of every file. Also the safe way to open one."""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from models.errors import ArtifactError
from models.network.head import DeepFMConfig
from models.schema.feature_schema import Strict, describe_validation_error

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
# Every file of an artifact, and no other; the manifest itself is not listed in the manifest.
FILES = (
    "schema.json",
    "vocabularies.safetensors",
    "embeddings.safetensors",
    "head.safetensors",
    "calibration.json",
    "golden.json",
    "report.html",
    "model_card.md",
)
VERSION_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
MAX_MANIFEST_BYTES = 1 << 20
MAX_JSON_BYTES = 64 << 20
PIECE_BYTES = 1 << 16
"""Digested without a pause: a twentieth of a millisecond."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class FileEntry(Strict):
    """Digest and size of one file."""

    sha256: Sha256
    size_bytes: Annotated[int, Field(ge=0)]


class DataFacts(Strict):
    """What the model was trained on."""

    files: tuple[str, ...]
    rows: Mapping[str, int]
    """Rows by part: training, validation, test."""
    window: Mapping[str, tuple[str, str]]
    """First and last value of the split column by part, where there is one."""
    digest: Sha256


class ScoreReference(Strict):
    """Calibrated probabilities of the last held-out part, to compare those with that are served."""

    edges: Annotated[tuple[float, ...], Field(max_length=99)]
    """Bounds between buckets, ascending; a bucket holds its lower bound. Deciles, where no two are equal."""
    shares: Annotated[tuple[float, ...], Field(min_length=1, max_length=100)]
    """Of each bucket, one more than there are edges."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.shares) != len(self.edges) + 1 or list(self.edges) != sorted(set(self.edges)):
            raise ValueError("edges must ascend, and shares be one more than they")
        return self


class Manifest(Strict):
    """``manifest.json``, written last: a directory without it is no artifact."""

    format_version: int
    model_version: Annotated[str, Field(pattern=VERSION_PATTERN)]
    created: str
    """UTC, ISO 8601."""
    model: DeepFMConfig
    table_rows: Annotated[int, Field(ge=1)]
    training: Mapping[str, Any]
    """The training configuration, seed included."""
    data: DataFacts
    metrics: Mapping[str, Mapping[str, float | int | None]]
    """Metrics by part, as in the report."""
    environment: Mapping[str, str]
    scores: ScoreReference | None = None
    files: Mapping[str, FileEntry]

    @property
    def table_digest(self) -> str:
        """The digest of the embedding table: its rows may be shared between artifacts that have the same."""
        return self.files["embeddings.safetensors"].sha256


def open_mapped(directory_fd: int, name: str, max_bytes: int | None = None) -> mmap.mmap | bytes:
    """Map a regular file of the directory for reading, without following links.

    Raises:
        ArtifactError: ``missing``; ``path`` for links, devices and pipes; ``size`` over ``max_bytes``.
    """
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=directory_fd)
    except FileNotFoundError as error:
        raise ArtifactError("missing", f"{name}: no such file") from error
    except OSError as error:
        raise ArtifactError("path", f"{name}: is not a plain file that can be read") from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise ArtifactError("path", f"{name}: is not a plain file")
        if max_bytes is not None and status.st_size > max_bytes:
            raise ArtifactError("size", f"{name}: is larger than {max_bytes} bytes")
        return mmap.mmap(fd, 0, access=mmap.ACCESS_READ) if status.st_size else b""
    finally:
        os.close(fd)


def read_manifest(directory_fd: int) -> Manifest:
    """Read the manifest and check that it is one this version understands.

    Raises:
        ArtifactError: ``missing``, ``path``, ``size``, ``manifest`` or ``format_version``.
    """
    raw = bytes(open_mapped(directory_fd, MANIFEST, MAX_MANIFEST_BYTES))
    found = re.search(rb'"format_version"\s*:\s*(\d{1,9})\b', raw)
    if found and int(found[1]) != FORMAT_VERSION:
        raise ArtifactError("format_version", f"{MANIFEST}: format_version {int(found[1])}, expected {FORMAT_VERSION}")
    try:
        manifest = Manifest.model_validate_json(raw)
    except ValidationError as error:
        raise ArtifactError("manifest", f"{MANIFEST}: {describe_validation_error(error)}") from error
    if set(manifest.files) != set(FILES):
        odd = sorted(set(manifest.files) ^ set(FILES))[0]
        raise ArtifactError("manifest", f"{MANIFEST}: lists the wrong files: {odd[:64]!r}")
    return manifest


def go_on() -> None:
    """Be the pause of those who need none."""


def open_verified(
    directory_fd: int, name: str, entry: FileEntry, max_bytes: int | None, pause: Callable[[], None]
) -> mmap.mmap | bytes:
    """Map a file and compare its size and SHA-256 with the manifest's, pausing after each piece.

    Raises:
        ArtifactError: ``missing``, ``path``, ``size`` or ``sha256``.
    """
    buffer = open_mapped(directory_fd, name, max_bytes)
    if len(buffer) != entry.size_bytes or _digest(buffer, pause) != entry.sha256:
        raise ArtifactError("sha256", f"{name}: is not the file that was written")
    return buffer


def _digest(buffer: mmap.mmap | bytes, pause: Callable[[], None]) -> str:
    digest = hashlib.sha256()
    with memoryview(buffer) as view:
        for start in range(0, len(view), PIECE_BYTES):
            digest.update(view[start : start + PIECE_BYTES])
            pause()
    return digest.hexdigest()


def describe_file(path: Path) -> FileEntry:
    """Return digest and size of a file just written."""
    with path.open("rb") as file:
        return FileEntry(sha256=hashlib.file_digest(file, "sha256").hexdigest(), size_bytes=path.stat().st_size)
