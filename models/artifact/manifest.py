"""The manifest of an artifact: what was trained from what, and the digest of every file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from models.artifact.verified_file import FileEntry, Sha256
from models.errors import ArtifactError
from models.network.head import DeepFMConfig
from models.schema.feature_schema import Strict
from models.schema.validation_errors import describe_validation_error

FORMAT_VERSION = 2
"""2: tokens are spelt as `models.features.token_spelling` says; in 1 an empty text was a token like any other."""
READABLE_VERSIONS = (1, 2)
MANIFEST = "manifest.json"
# The files that every artifact has; the manifest itself is not listed in the manifest.
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
OPTIONAL_FILES = ("evidence.safetensors",)
"""What artifacts of earlier versions do not have."""
VERSION_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
MAX_MANIFEST_BYTES = 1 << 20
MAX_JSON_BYTES = 64 << 20


class DataFacts(Strict):
    """What the model was trained on."""

    files: tuple[str, ...]
    rows: Mapping[str, int]
    """Rows by part: training, validation, test."""
    window: Mapping[str, tuple[str, str]]
    """First and last value of the split column by part, where there is one."""
    digest: Sha256


class ScoreReference(Strict):
    """Calibrated probabilities of the last held-out part; a service compares its own with them."""

    edges: Annotated[tuple[float, ...], Field(max_length=99)]
    """Bounds between buckets, ascending; a bucket holds its lower bound. Deciles, where no two are equal."""
    shares: Annotated[tuple[float, ...], Field(min_length=1, max_length=100)]
    """Share of the probabilities in each bucket; one bucket more than edges."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.shares) != len(self.edges) + 1 or list(self.edges) != sorted(set(self.edges)):
            raise ValueError("edges must ascend, and there must be one share more than edges")
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
        """The digest of the embedding table's file; artifacts with the same digest share their rows in Redis."""
        return self.files["embeddings.safetensors"].sha256


def parse_manifest(raw: bytes) -> Manifest:
    """Return the manifest, checked to be one that this version understands.

    Raises:
        ArtifactError: ``manifest`` or ``format_version``.
    """
    found = re.search(rb'"format_version"\s*:\s*(\d{1,9})\b', raw)
    if found and int(found[1]) not in READABLE_VERSIONS:
        raise ArtifactError("format_version", f"{MANIFEST}: format_version {int(found[1])}, expected {FORMAT_VERSION}")
    try:
        manifest = Manifest.model_validate_json(raw)
    except ValidationError as error:
        raise ArtifactError("manifest", f"{MANIFEST}: {describe_validation_error(error)}") from error
    if set(manifest.files) - set(OPTIONAL_FILES) != set(FILES):
        odd = sorted((set(manifest.files) - set(OPTIONAL_FILES)) ^ set(FILES))[0]
        raise ArtifactError("manifest", f"{MANIFEST}: lists the wrong files: {odd[:64]!r}")
    return manifest
