"""A previous artifact beside the new model: the same held-out rows, scored by its own encoder, predictor and calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.artifact import Artifact
from models.coded_log import CodedLog
from models.errors import SchemaError
from models.metrics import Floats
from models.schema import FeatureSchema


@dataclass(frozen=True)
class Rival:
    """What a previous artifact says: probabilities of the log as it is, float64 [B], by part; and what it was made from."""

    model_version: str
    window: str
    probabilities: Mapping[str, Floats]


def check_readable(artifact: Artifact, schema: FeatureSchema) -> None:
    """Refuse an artifact that needs what a log of this schema does not give.

    Raises:
        SchemaError: a field that the schema lacks, has as another kind, or cuts shorter.
    """
    given = {f.name: f for f in schema.fields}
    for field in artifact.schema.features.fields:
        found = given.get(field.name)
        if found is None or found.kind != field.kind:
            raise SchemaError(f"--compare: the artifact needs the {field.kind} field {field.name!r}")
        if field.kind == "sequence" and found.max_length < field.max_length:
            raise SchemaError(f"--compare: the artifact needs {field.max_length} tokens of field {field.name!r}")


def score_log(artifact: Artifact, log: CodedLog, parts: Mapping[str, NDArray[np.int64]]) -> Rival:
    """Score each part's rows int64 [B] of a log, a chunk at a time; errors as in `check_readable`."""
    check_readable(artifact, log.schema)
    found = {}
    for name, rows in parts.items():
        found[name] = np.empty(len(rows))
        for at, frame in log.frames(rows):
            if len(at):
                found[name][at] = score_frame(artifact, frame)
    return Rival(artifact.model_version, _window(artifact), found)


def score_frame(artifact: Artifact, frame: pl.DataFrame) -> Floats:
    """Return the probabilities float64 [B] of a canonical frame's rows, at least one, for the log as it is.

    Tokens are spelt as text, which is what vocabularies hold whatever the type on the wire.
    """
    columns = [frame[f.name].to_list() for f in artifact.schema.features.fields]
    logits = artifact.predictor.score_table(artifact.encoder.encode(columns), artifact.table)
    return artifact.predictor.calibration.of_log(logits)


def _window(artifact: Artifact) -> str:
    data = artifact.manifest.data
    spans = {part: f" from {first} to {last}" for part, (first, last) in data.window.items()}
    return ", ".join(f"{n:,} {part} rows{spans.get(part, '')}" for part, n in data.rows.items() if n)
