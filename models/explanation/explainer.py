"""Explains the probabilities of an artifact: what each field contributed to the logit, and how often training saw its value."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np

from models.artifact.artifact import Artifact
from models.explanation.uncertainty import Gradients, Uncertainty
from models.features.encoder import EncodedBatch
from models.features.request_reader import keep_cpu
from models.features.vocabulary import MISSING, OOV
from models.network.contributions import Contributor
from models.network.integrated_gradients import Array
from models.network.predictor import pool

LEVEL, STANDARD_ERRORS = 0.9, 1.6448536
"""The nominal share of the truth in an interval, and how many standard errors it reaches to both sides."""


class Explainer:
    """Explains what an artifact scores. Rows are read from the artifact's own table.

    Args:
        artifact: the model version.
        yield_cpu: called after each millisecond of work or so.
    """

    def __init__(self, artifact: Artifact, yield_cpu: Callable[[], None] = keep_cpu) -> None:
        self._artifact = artifact
        self._names = artifact.encoder.names
        self._starts = artifact.encoder.missing_rows - MISSING
        self._is_sequence = [field.spec.kind == "sequence" for field in artifact.encoder.fields]
        self._gradients = Gradients(artifact.manifest.model, len(self._names), artifact.head)
        self._uncertainty = None
        if artifact.evidence is not None:
            self._uncertainty = Uncertainty(artifact.encoder, artifact.counts, artifact.evidence)
        self._contributor = Contributor(artifact.manifest.model, len(self._names), artifact.head, yield_cpu)

    def header(self) -> dict[str, Any]:
        """Return what explanations of one model share: names in the order of their numbers, and the calibration."""
        calibration = self._artifact.predictor.calibration.model_dump(exclude_defaults=True, mode="json")
        return {
            "model_version": self._artifact.model_version,
            "fields": self._names,
            "pairs": list(combinations(self._names, 2)),
            "calibration": {"method": self._artifact.predictor.calibration.method} | calibration,
        }

    def intervals(self, batch: EncodedBatch) -> Array | None:
        """Return the bounds of each probability's interval, float64 [2, B]; `LEVEL` is its nominal share of the truth.

        The logit has a normal distribution with its standard error; calibration, which is monotone, maps its interval.
        ``None`` for an artifact of an earlier version, which does not say how sure it is.
        """
        if self._uncertainty is None:
            return None
        rows = self._artifact.table.take(batch.ids, axis=0)
        predictor = self._artifact.predictor
        variances = self._uncertainty.variances(batch, self._gradients.of(pool(batch, rows).fields))
        reach = STANDARD_ERRORS * np.sqrt(variances)
        logits = predictor.logits(batch, rows)
        return predictor.calibration.of_traffic(np.stack([logits - reach, logits + reach]))

    def explain(self, batch: EncodedBatch) -> Iterator[dict[str, Any]]:
        """Yield the explanation of each impression, one after the other, as JSON has it.

        ``bias``, ``first_order`` [F], ``second_order`` [F·(F−1)/2], ``deep`` [F] and ``residual`` sum to ``logit``, that of
        the predictor; ``logit`` and ``calibration`` sum to the log-odds of ``probability``. ``impressions`` has, for each
        field, how often training saw the table row of its value: a number, or a list for a sequence. The values of
        ``unseen`` share the row of rare values, whose impressions those are. ``interval`` is that of `intervals`, and
        ``standard_error`` its half width in standard errors; ``None`` where there is none.
        """
        rows = self._artifact.table.take(batch.ids, axis=0)
        predictor, F = self._artifact.predictor, batch.num_fields
        logits = predictor.logits(batch, rows)
        probabilities = predictor.probabilities(logits)
        vectors = pool(batch, rows).fields
        intervals = self.intervals(batch)
        for b, (logit, probability) in enumerate(zip(logits.tolist(), probabilities.tolist(), strict=True)):
            parts = self._contributor.contributions(vectors[b])
            yield {
                "probability": probability,
                **_certainty(None if intervals is None else intervals[:, b].tolist()),
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


def _certainty(interval: list[float] | None) -> dict[str, Any]:
    if interval is None:
        return {"standard_error": None, "interval": None}
    low, high = interval
    return {"standard_error": (high - low) / (2 * STANDARD_ERRORS), "interval": interval}
