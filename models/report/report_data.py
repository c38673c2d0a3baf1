"""What the training report is made from: plain arrays and names; and the conclusions drawn from them before any layout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.artifact.manifest import DataFacts
from models.evaluation.bootstrap import NAMES, bootstrap, resample
from models.evaluation.importance import Importance
from models.evaluation.metrics import (
    Z_95,
    Floats,
    Labels,
    Metrics,
    calibration_interval,
    calibration_ratio,
    ece_by_chance,
    evaluate,
    log_losses,
)
from models.training.trainer import Epoch

NUM_SEGMENT_VALUES = 12
# A total this far from the clicks that came is no reason for a warning, however many rows prove it.
TOLERATED = 0.05


@dataclass(frozen=True)
class ChampionScores:
    """A previous artifact's probabilities float64 [B] of the same rows, and what it was made from, in words."""

    model_version: str
    window: str
    probabilities: Floats


@dataclass(frozen=True)
class Scored:
    """One part of the log, scored.

    Args:
        name: ``validation`` or ``test``.
        labels: 0 or 1, [B].
        probabilities: the model's, calibrated for the log as it is, float64 [B].
        raw_probabilities: σ(logit), before calibration, float64 [B].
        constant: the click rate of the training rows, the simplest prediction.
        baseline_probabilities: the logistic regression's, float64 [B].
        groups: the group of each row for GAUC, [B].
        segments: by field, the value of each row, [B].
        cold_starts: metrics of the rows whose user or item training never saw, and of the others, by name.
        champion: a previous artifact's answers, where there is one to compare with.
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
    champion: ChampionScores | None = None

    @cached_property
    def metrics(self) -> Metrics:
        """Of the calibrated model: what the manifest holds."""
        return evaluate(self.labels, self.probabilities, self.groups)

    @cached_property
    def intervals(self) -> Mapping[str, tuple[float, float]]:
        """The 95 % interval of each metric of the calibrated model, by the metric's attribute."""
        return bootstrap(self.labels, self.probabilities, self.groups)

    @cached_property
    def champion_metrics(self) -> Metrics | None:
        """Of the previous artifact."""
        return None if self.champion is None else evaluate(self.labels, self.champion.probabilities, self.groups)

    @cached_property
    def champion_intervals(self) -> Mapping[str, tuple[float, float]]:
        """The 95 % interval of each metric of this model minus that of the previous artifact, by the metric's attribute."""
        if self.champion is None:
            return {}
        found = resample(self.labels, (self.probabilities, self.champion.probabilities), self.groups)
        return {name: ends for name in NAMES if (ends := found.interval(name, (1.0, -1.0))) is not None}

    @cached_property
    def baseline_metrics(self) -> Metrics | None:
        """Of the logistic regression."""
        p = self.baseline_probabilities
        return None if p is None else evaluate(self.labels, p, self.groups)

    @cached_property
    def all_metrics(self) -> Mapping[str, Metrics]:
        """Of everything that is compared, by the name it has in the report."""
        named = {
            "DeepFM, calibrated": self.metrics,
            "DeepFM, raw": evaluate(self.labels, self.raw_probabilities, self.groups),
        }
        if self.baseline_metrics is not None:
            named["logistic regression"] = self.baseline_metrics
        return named | {"constant": evaluate(self.labels, np.full(len(self.labels), self.constant), self.groups)}


@dataclass(frozen=True)
class FieldFacts:
    """One row of the table of fields.

    Args:
        name: as in the schema.
        kind: as in the schema.
        side: as in the schema.
        encoding: in words, such as ``seen twice or more``, ``20 bins`` or ``shares video_id``.
        num_values: distinct values (bins) kept; ``None`` when hashed.
        num_rows: rows of the table that this field adds.
        missing: share of missing training values.
        unseen: by part, share of values on the out-of-vocabulary row; a part left out shows a dash.
    """

    name: str
    kind: str
    side: str
    encoding: str
    num_values: int | None
    num_rows: int
    missing: float
    unseen: Mapping[str, float]


@dataclass(frozen=True)
class ReportData:
    """Everything that the report says.

    Args:
        model_version: of the artifact.
        created: UTC, ISO 8601.
        label: name of the label's column.
        data: files, rows and window by part.
        validation: scored.
        test: scored, where there is one; else validation is what the headline speaks of.
        history: one entry per epoch.
        best_epoch: the one kept.
        fields: in the schema's order.
        calibration: how it was fitted, one or two sentences.
        config: of the training, possibly nested.
        environment: versions, sizes, times: name → text.
        importance: what each field contributes to the last part, the most first, on ``importance_rows`` of its rows.
    """

    model_version: str
    created: str
    label: str
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

    @property
    def parts(self) -> tuple[Scored, ...]:
        """The scored parts, the one that counts last."""
        return (self.validation,) if self.test is None else (self.validation, self.test)


class SegmentRatio(NamedTuple):
    """Σp ÷ Σy of the rows with one value of a segment field, and its 95 % interval."""

    value: str
    rows: int
    click_rate: float
    low: float
    ratio: float
    high: float


def verdict(scored: Scored) -> tuple[str, bool]:
    """Say in three sentences how good the model is; and whether it beats the baseline and is calibrated."""
    other, p = "logistic regression", scored.baseline_probabilities
    if p is None:
        other, p = "constant", np.full(len(scored.labels), scored.constant)
    other_losses = log_losses(scored.labels, p)
    gains = other_losses - log_losses(scored.labels, scored.probabilities)
    gain, error = float(gains.mean()), Z_95 * float(gains.std()) / float(np.sqrt(len(gains)))
    size = f"{abs(gain):.4f} ± {error:.4f} nats of log loss ({100 * abs(gain) / float(other_losses.mean()):.1f} %)"
    if abs(gain) <= error:
        first = f"On {scored.name} the model is on a par with the {other}: they differ by {size}."
    else:
        first = f"On {scored.name} the model {'beats' if gain > 0 else 'loses to'} the {other} by {size}."
    low, high = calibration_interval(scored.labels, scored.probabilities)
    total = scored.metrics.calibration
    second = f"Its total calibration Σp/Σy is {total:.3f} (95 % interval {low:.3f} to {high:.3f})"
    if not low <= 1 <= high:
        second += f": it promises {100 * abs(total - 1):.1f} % too {'many' if total > 1 else 'few'} clicks"
    chance, least, most = ece_by_chance(scored.probabilities)
    third = f"Its ECE is {scored.metrics.ece:.4f}; with so many rows true probabilities would show {chance:.4f}"
    return f"{first} {second}. {third} ({least:.4f} to {most:.4f}).", gain > error and (
        low <= 1 <= high or abs(total - 1) <= TOLERATED
    )


def segment_ratios(scored: Scored, values: Sequence[str]) -> list[SegmentRatio]:
    """Return the ratio of each of the 12 values with most rows, ties by name, and of all others together."""
    counts = sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))
    shown = [value for value, _ in counts[:NUM_SEGMENT_VALUES]]
    code_of = {value: i for i, value in enumerate(shown)}
    codes = np.fromiter((code_of.get(v, NUM_SEGMENT_VALUES) for v in values), np.int64, len(values))
    if len(counts) > NUM_SEGMENT_VALUES:
        code_of[f"{len(counts) - NUM_SEGMENT_VALUES:,} others"] = NUM_SEGMENT_VALUES
    ratios = []
    for value, segment in code_of.items():
        here = codes == segment
        y, p = scored.labels[here], scored.probabilities[here]
        low, high = calibration_interval(y, p)
        ratios.append(SegmentRatio(value, len(y), float(np.mean(y)), low, calibration_ratio(y, p), high))
    return ratios


def span_text(span: tuple[str, str]) -> str:
    return " to ".join(dict.fromkeys(span))


def data_facts(data: ReportData) -> list[tuple[str, str]]:
    window = {part: f", {span_text(span)}" for part, span in data.data.window.items()}
    rows = [(part, f"{n:,} rows{window.get(part, '')}") for part, n in data.data.rows.items() if n]
    rates = [(f"click rate, {s.name}", f"{100 * s.metrics.base_rate:.2f} %") for s in data.parts]
    rates.insert(0, ("click rate, train", f"{100 * data.validation.constant:.2f} %"))
    return [("files", ", ".join(data.data.files)), *rows, *rates, ("sha256 of the encoded rows", data.data.digest)]
