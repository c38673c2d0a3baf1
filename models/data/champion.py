"""Scores the held-out rows with an earlier artifact, the champion, by its own encoder, predictor and calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.artifact.artifact import Artifact
from models.data.chunk_encoder import ChunkEncoder
from models.data.shown_time import shown_time
from models.data.token_log import TokenLog
from models.errors import SchemaError
from models.evaluation.metrics import Floats
from models.network.predictor import score_rows
from models.schema.feature_schema import FeatureSchema


@dataclass(frozen=True)
class Champion:
    """An earlier artifact's click probabilities.

    Args:
        model_version: the artifact's.
        window: its rows and their time spans, in words.
        probabilities: by part, calibrated for the log as it is, float64 [B].
    """

    model_version: str
    window: str
    probabilities: Mapping[str, Floats]


def check_readable(artifact: Artifact, schema: FeatureSchema) -> None:
    """Check that a log of this schema has everything that the artifact needs.

    Raises:
        SchemaError: the schema lacks a field, or has it as another kind, in another block or cut to another length.
    """
    given = {f.name: f for f in schema.fields}
    for field in artifact.schema.features.fields:
        found = given.get(field.name)
        if found is None or (found.kind, found.block) != (field.kind, field.block):
            raise SchemaError(f"--compare: the artifact needs the {field.kind} field {field.name!r}")
        if found.max_length != field.max_length:
            raise SchemaError(f"--compare: the artifact needs {field.max_length} tokens of field {field.name!r}")


def score_log(artifact: Artifact, log: TokenLog, parts: Mapping[str, NDArray[np.int64]]) -> Champion:
    """Score the rows int64 [B] of each part of a log that `check_readable` accepts."""
    encoder, probabilities = ChunkEncoder(artifact.encoder, log), {}
    for name, rows in parts.items():
        logits = np.empty(len(rows), np.float32)
        for chunk, here, places in log.chunks_holding(rows):
            encoded = encoder.encode(chunk)
            selected = encoded.select(here, encoded.row_starts())
            logits[places] = score_rows(artifact.predictor, selected, artifact.table)
        probabilities[name] = artifact.predictor.calibration.of_log(logits)
    return Champion(artifact.model_version, _window(artifact), probabilities)


def _window(artifact: Artifact) -> str:
    data = artifact.manifest.data
    spans = {part: f" from {shown_time(a)} to {shown_time(b)}" for part, (a, b) in data.window.items()}
    return ", ".join(f"{n:,} {part} rows{spans.get(part, '')}" for part, n in data.rows.items() if n)
