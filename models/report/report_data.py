"""The data of the training report: arrays and names, and the metrics computed from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.artifact.manifest import DataFacts
from models.data.champion import Champion
from models.evaluation.bootstrap import NAMES, bootstrap, resample
from models.evaluation.importance import Importance
from models.evaluation.metrics import Floats, Labels, Metrics, ece_by_chance, evaluate

if TYPE_CHECKING:
    from models.training.trainer import Epoch


@dataclass(frozen=True)
class Scored:
    """One scored part of the log.

    Args:
        name: ``validation`` or ``test``.
        labels: 0 or 1, [B].
        probabilities: the model's, calibrated for the log as it is, float64 [B].
        raw_probabilities: σ(logit), before calibration, float64 [B].
        constant: the click rate of the training rows, as the simplest prediction.
        baseline_probabilities: the logistic regression's, refitted and calibrated as the model's are, float64 [B].
        groups: the group of each row for GAUC, [B].
        segments: by field, the value of each row, [B].
        cold_starts: metrics of the rows whose user or item training never saw, and of the others, by name.
        champion: an earlier artifact to compare with.
    """

    name: str
    labels: Labels
    probabilities: Floats
    raw_probabilities: Floats
    constant: float
    baseline_probabilities: Floats | None = None
    groups: NDArray[Any] | None = None
    segments: Mapping[str, Sequence[str]] | None = None
    cold_starts: Mapping[str, Metrics] = field(default_factory=dict)
    champion: Champion | None = None

    @cached_property
    def metrics(self) -> Metrics:
        """Metrics of the calibrated model, as the manifest holds them."""
        return self._evaluate(self.probabilities)

    @cached_property
    def intervals(self) -> Mapping[str, tuple[float, float]]:
        """The 95 % interval of each metric but ECE of the calibrated model, by attribute of `Metrics`."""
        return bootstrap(self.labels, self.probabilities, self.groups)

    @cached_property
    def ece_by_chance(self) -> tuple[float, float, float]:
        """What the ECE would be if the probabilities were the true ones: mean and 95 % consistency interval."""
        return ece_by_chance(self.probabilities)

    @cached_property
    def champion_metrics(self) -> Metrics | None:
        """Metrics of the champion."""
        return None if self.champion is None else self._evaluate(self.champion.probabilities[self.name])

    @cached_property
    def champion_intervals(self) -> Mapping[str, tuple[float, float]]:
        """The 95 % interval of each metric of this model minus the champion's, by attribute of `Metrics`."""
        if self.champion is None:
            return {}
        found = resample(self.labels, (self.probabilities, self.champion.probabilities[self.name]), self.groups)
        return {name: ends for name in NAMES if (ends := found.interval(name, (1.0, -1.0))) is not None}

    @cached_property
    def baseline_metrics(self) -> Metrics | None:
        """Metrics of the logistic regression."""
        return None if self.baseline_probabilities is None else self._evaluate(self.baseline_probabilities)

    @cached_property
    def all_metrics(self) -> Mapping[str, Metrics]:
        """Metrics of the model and of what it is compared with, by name in the report."""
        named = {"DeepFM, calibrated": self.metrics, "DeepFM, raw": self._evaluate(self.raw_probabilities)}
        if self.baseline_metrics is not None:
            named["logistic regression"] = self.baseline_metrics
        return named | {"constant": self._evaluate(np.full(len(self.labels), self.constant))}

    def _evaluate(self, probabilities: Floats) -> Metrics:
        return evaluate(self.labels, probabilities, self.groups)


@dataclass(frozen=True)
class FieldFacts:
    """One row of the table of fields.

    Args:
        name: as in the schema.
        kind: as in the schema.
        side: as in the schema.
        encoding: in words, such as ``20 quantile bins`` or ``shares video_id``.
        num_values: number of distinct values or bins kept; ``None`` for hashing.
        num_rows: table rows that this field adds.
        missing: share of training values that are missing.
        unseen: by part, share of values on the out-of-vocabulary row; a missing part shows a dash.
        drift: population stability index of the last part's values against those of training.
    """

    name: str
    kind: str
    side: str
    encoding: str
    num_values: int | None
    num_rows: int
    missing: float
    unseen: Mapping[str, float]
    drift: float = 0.0


@dataclass(frozen=True)
class ReportData:
    """All data of the report.

    Args:
        model_version: of the artifact.
        created: UTC, ISO 8601.
        label: name of the label's column.
        options: of the command that trains this model again, without those of ``config``.
        data: files, rows and window by part.
        validation: scored.
        test: scored, if there is one.
        history: one entry per epoch.
        best_epoch: the epoch that was kept; 0 for the first order alone.
        fields: in the schema's order.
        calibration: how it was fitted, in one or two sentences.
        config: of the training, can be nested.
        environment: versions, sizes and times, by name.
        importance: what each field contributes to the last part, the largest first, measured on ``importance_rows`` rows.
        first_order_log_loss: of the first order alone on the validation part, where training began there.
    """

    model_version: str
    created: str
    label: str
    options: Sequence[str]
    data: DataFacts
    validation: Scored
    test: Scored | None
    history: Sequence[Epoch]
    best_epoch: int
    fields: Sequence[FieldFacts]
    calibration: str
    config: Mapping[str, Any]
    environment: Mapping[str, str]
    importance: Sequence[Importance] = ()
    importance_rows: int = 0
    first_order_log_loss: float | None = None

    @property
    def parts(self) -> tuple[Scored, ...]:
        """The scored parts; the headline is about the last one."""
        return (self.validation,) if self.test is None else (self.validation, self.test)


class LogField(NamedTuple):
    """One row of the table of a scored log's fields: shares of its values; ``unseen`` is ``None`` where none can be."""

    name: str
    kind: str
    side: str
    missing: float
    unseen: float | None


@dataclass(frozen=True)
class LogReport:
    """All data of the page of a scored log.

    Args:
        model_version: of the artifact.
        created: UTC, ISO 8601.
        part: the labelled rows, or a sample of them.
        calibration: of the model, in a sentence.
        trained: metrics by part as the artifact's manifest has them.
        fields: in the schema's order.
        facts: what was scored, by name.
    """

    model_version: str
    created: str
    part: Scored
    calibration: str
    trained: Mapping[str, Mapping[str, float | int | None]]
    fields: Sequence[LogField]
    facts: Mapping[str, str]

    @property
    def parts(self) -> tuple[Scored, ...]:
        """The one part."""
        return (self.part,)
