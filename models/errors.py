"""The errors that ``models`` raises.

ModelsError
├── SchemaError        an invalid schema file, or a log that does not fit it
├── LogError           a log that cannot be read; names file, row and column if known
├── TrainingError      training cannot start or continue
└── ArtifactError      an artifact that must not be served; ``reason`` is one of ``ArtifactReason``
"""

from __future__ import annotations

from typing import Literal

ArtifactReason = Literal[
    "missing", "path", "size", "manifest", "format_version", "sha256", "shape", "finite", "golden", "failed"
]


class ModelsError(Exception):
    """Base of this package's errors; the message says what was wrong, where, and what was expected."""


class SchemaError(ModelsError):
    """The feature schema is not valid, or does not fit the log."""


class LogError(ModelsError):
    """The log cannot be read as the schema says."""


class TrainingError(ModelsError):
    """Training cannot start or continue."""


class ArtifactError(ModelsError):
    """An artifact is damaged or inconsistent and must not be served.

    Args:
        reason: a stable word for metrics and for ``/model``.
        message: the file and what was expected.
    """

    def __init__(self, reason: ArtifactReason, message: str) -> None:
        super().__init__(message)
        self.reason: ArtifactReason = reason
