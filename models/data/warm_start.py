"""Warm start: training continues from an artifact's tokens, bins and weights, on a log that holds only the new rows.

Ids stay ordered by (−count, token), with counts over all rows that either training saw: new tokens are sorted in, and every
old row moves to the new id of its token. Bins keep their boundaries. No token is dropped, so the table grows until the model
is trained from scratch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.artifact.artifact import Artifact
from models.artifact.tensor_file import Tensors
from models.data.token_log import TokenLog
from models.errors import SchemaError
from models.features.encoder import FeatureEncoder
from models.schema.feature_schema import FeatureSchema

ROWS_BEFORE = "rows_before"
"""Key in the manifest's ``training``: the number of impressions that the earlier artifacts were trained on."""


@dataclass(frozen=True)
class Inheritance:
    """What a warm start takes from an artifact.

    Args:
        rows: the new table row of each old one, int64 [R_old].
        table: the old table, float32 [R_old, E+1].
        counts: how often training saw each old row, int64 [R_old].
        head: the head's tensors by name.
        num_rows: number of impressions that the artifact was trained on.
        model_version: the artifact's.
    """

    rows: NDArray[np.int64]
    table: NDArray[np.float32]
    counts: NDArray[np.int64]
    head: Tensors
    num_rows: int
    model_version: str

    def with_counts(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how often each new row was seen by both trainings, int64 [R], given how often by the new one."""
        together = counts.copy()
        together[self.rows] += self.counts
        return together


def check_fits(artifact: Artifact, schema: FeatureSchema) -> None:
    """Check that an artifact has the fields of the schema.

    Raises:
        SchemaError: a field was added, removed, moved or changed, or is to be pooled in another way.
    """
    old, new = artifact.schema.features.fields, schema.fields
    for before, fitted, after in zip(old, artifact.schema.fitted, new, strict=False):
        # The log decides a missing dtype; min_count and max_length only select values.
        loose = {name: getattr(before, name) for name in ("dtype", "min_count", "max_length", "pooling")}
        if before != after.model_copy(update=loose):
            raise SchemaError(f"--init-from: field {after.name!r} differs from {before.name!r} of the artifact")
        if after.pooling not in (None, fitted.pooling):
            given, learnt = after.pooling, fitted.pooling
            raise SchemaError(
                f"--init-from: field {after.name!r} is pooled by {learnt!r} in the artifact, not by {given!r}"
            )
    if len(old) != len(new):
        raise SchemaError(f"--init-from: the artifact has {len(old)} fields, the schema {len(new)}")


def register_tokens(artifact: Artifact, log: TokenLog) -> dict[str, tuple[NDArray[np.uint32], NDArray[np.int64]]]:
    """Add the artifact's tokens to the log's indexes; return the codes uint32 and counts int64 of each block's tokens."""
    known = {}
    encoder = artifact.encoder
    for block, vocabulary in encoder.vocabularies.items():
        starts = [encoder.start_of[rows] + 2 for rows, owner in encoder.vocabulary_of.items() if owner == block]
        counts = np.sum([artifact.counts[first : first + len(vocabulary)] for first in starts], axis=0)
        known[block] = log.index(block).codes(pl.Series(vocabulary.tokens(), dtype=pl.String)), counts
    return known


def inherit(artifact: Artifact, encoder: FeatureEncoder) -> Inheritance:
    """Map the artifact's table rows to those of a new encoder that has all its tokens."""
    rows = np.empty(artifact.encoder.num_rows, np.int64)
    for block, start in artifact.encoder.start_of.items():
        local = np.arange(artifact.schema.num_tokens[block] + 2)
        owner = artifact.encoder.vocabulary_of[block]
        vocabulary = artifact.encoder.vocabularies.get(owner)
        if vocabulary is not None:
            local[2:] = encoder.vocabularies[owner].find_all(vocabulary.tokens())
        rows[start : start + len(local)] = encoder.start_of[block] + local
    return Inheritance(
        rows=rows,
        table=artifact.table,
        counts=artifact.counts,
        head=artifact.head,
        num_rows=_rows_seen(artifact),
        model_version=artifact.model_version,
    )


def _rows_seen(artifact: Artifact) -> int:
    rows, training = artifact.manifest.data.rows, artifact.manifest.training
    learnt: int = rows["train"] + (rows["validation"] if training.get("refit", False) else 0)
    return learnt + int(training.get(ROWS_BEFORE, 0))
