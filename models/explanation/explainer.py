"""Explains the probabilities of an artifact: what each field contributed to the logit, and how often training saw its value."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np

from models.artifact.artifact import Artifact
from models.features.encoder import EncodedBatch
from models.features.vocabulary import MISSING, OOV
from models.network.contributions import Contributor
from models.network.predictor import pool


class Explainer:
    """Explains what an artifact scores. Rows are read from the artifact's own table.

    Args:
        artifact: the model version.
    """

    def __init__(self, artifact: Artifact) -> None:
        self._artifact = artifact
        self._names = artifact.encoder.names
        self._starts = artifact.encoder.missing_rows - MISSING
        self._is_sequence = [field.spec.kind == "sequence" for field in artifact.encoder.fields]
        self._contributor = Contributor(artifact.manifest.model, len(self._names), artifact.head)

    def header(self) -> dict[str, Any]:
        """Return what explanations of one model share: names in the order of their numbers, and the calibration."""
        calibration = self._artifact.predictor.calibration.model_dump(exclude_defaults=True, mode="json")
        return {
            "model_version": self._artifact.model_version,
            "fields": self._names,
            "pairs": list(combinations(self._names, 2)),
            "calibration": {"method": self._artifact.predictor.calibration.method} | calibration,
        }

    def explain(self, batch: EncodedBatch) -> Iterator[dict[str, Any]]:
        """Yield the explanation of each impression, one after the other, as JSON has it.

        ``bias``, ``first_order`` [F], ``second_order`` [F·(F−1)/2], ``deep`` [F] and ``residual`` sum to ``logit``, that of
        the predictor; ``logit`` and ``calibration`` sum to the log-odds of ``probability``. ``impressions`` has, for each
        field, how often training saw the table row of its value: a number, or a list for a sequence. The values of
        ``unseen`` share the row of rare values, whose impressions those are.
        """
        rows = self._artifact.table.take(batch.ids, axis=0)
        predictor, F = self._artifact.predictor, batch.num_fields
        logits = predictor.logits(batch, rows)
        probabilities = predictor.probabilities(logits)
        vectors = pool(batch, rows).fields
        for b, (logit, probability) in enumerate(zip(logits.tolist(), probabilities.tolist(), strict=True)):
            parts = self._contributor.contributions(vectors[b])
            yield {
                "probability": probability,
                "calibration": math.log(probability) - math.log1p(-probability) - logit,
                "logit": logit,
                "bias": parts.bias,
                "first_order": parts.first_order.tolist(),
                "second_order": parts.second_order.tolist(),
                "deep": parts.deep.tolist(),
                "residual": logit - parts.total,
                **self._evidence(batch, b * F),
            }

    def _evidence(self, batch: EncodedBatch, first_bag: int) -> Mapping[str, Any]:
        impressions: list[int | list[int]] = []
        missing, unseen = [], []
        for f, name in enumerate(self._names):
            ids = batch.ids[batch.offsets[first_bag + f] : batch.offsets[first_bag + f + 1]]
            counts: list[int] = self._artifact.counts[ids].tolist()
            impressions.append(counts if self._is_sequence[f] else counts[0])
            local = ids - self._starts[f]
            if np.any(local == MISSING):
                missing.append(name)
            if np.any(local == OOV):
                unseen.append(name)
        return {"impressions": impressions, "missing": missing, "unseen": unseen}
