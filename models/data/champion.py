"""A previous artifact beside the new model: the same held-out rows, scored by its own encoder, predictor and calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.artifact.artifact import Artifact
from models.data.fitting import ChunkEncoder
from models.data.token_log import TokenLog
from models.errors import SchemaError
from models.evaluation.metrics import Floats
from models.network.predictor import score_rows
from models.schema.feature_schema import FeatureSchema


@dataclass(frozen=True)
class Champion:
    """What a previous artifact says: probabilities of the log as it is, float64 [B], by part; and what it was made from."""

    model_version: str
    window: str
    probabilities: Mapping[str, Floats]


def check_readable(artifact: Artifact, schema: FeatureSchema) -> None:
    """Refuse an artifact that needs what a log of this schema does not give.

    Raises:
        SchemaError: a field that the schema lacks, or has as another kind, of another block or cut to another length.
    """
    given = {f.name: f for f in schema.fields}
    for field in artifact.schema.features.fields:
        found = given.get(field.name)
        if found is None or (found.kind, found.block) != (field.kind, field.block):
            raise SchemaError(f"--compare: the artifact needs the {field.kind} field {field.name!r}")
        if found.max_length != field.max_length:
            raise SchemaError(f"--compare: the artifact needs {field.max_length} tokens of field {field.name!r}")


def score_log(artifact: Artifact, log: TokenLog, parts: Mapping[str, NDArray[np.int64]]) -> Champion:
    """Score each part's rows int64 [B] of a log, a chunk at a time; errors as in `check_readable`."""
    check_readable(artifact, log.schema)
    encoder, found = ChunkEncoder(artifact.encoder, log), {}
    for name, rows in parts.items():
        logits = np.empty(len(rows), np.float32)
        places = np.full(log.num_rows, -1)
        places[rows] = np.arange(len(rows))
        for chunk, at in log.chunks_with(places):
            here = np.flatnonzero(at >= 0)
            if len(here):
                encoded = encoder.encode(chunk)
                logits[at[here]] = score_rows(
                    artifact.predictor, encoded.select(here, encoded.row_starts()), artifact.table
                )
        found[name] = artifact.predictor.calibration.of_log(logits)
    return Champion(artifact.model_version, _window(artifact), found)


def _window(artifact: Artifact) -> str:
    data = artifact.manifest.data
    spans = {part: f" from {first} to {last}" for part, (first, last) in data.window.items()}
    return ", ".join(f"{n:,} {part} rows{spans.get(part, '')}" for part, n in data.rows.items() if n)
