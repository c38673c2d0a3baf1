"""Conclusions of the report: the verdict in three sentences, and calibration by segment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from models.evaluation.metrics import Z_95, calibration_interval, calibration_ratio, log_losses
from models.network.calibration import Calibration
from models.report.report_data import Scored

NUM_SEGMENT_VALUES = 12
TOLERATED = 0.05
"""A deviation of Σp/Σy from 1 up to this is not a reason for a warning, even when it is significant."""


class Verdict(NamedTuple):
    """How good the model is, and whether it beats the baseline and is calibrated."""

    text: str
    is_good: bool


class SegmentRatio(NamedTuple):
    """Σp ÷ Σy of the rows with one value of a segment field, and its 95 % interval."""

    value: str
    rows: int
    click_rate: float
    low: float
    ratio: float
    high: float


def verdict(scored: Scored) -> Verdict:
    """Compare the model with its baseline, the logistic regression or else the constant, and judge its calibration."""
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
        second += f": it predicts {100 * abs(total - 1):.1f} % too {'many' if total > 1 else 'few'} clicks"
    chance, least, most = scored.ece_by_chance
    third = f"Its ECE is {scored.metrics.ece:.4f}; with so many rows true probabilities would show {chance:.4f}"
    is_calibrated = low <= 1 <= high or abs(total - 1) <= TOLERATED
    return Verdict(f"{first} {second}. {third} ({least:.4f} to {most:.4f}).", gain > error and is_calibrated)


def segment_ratios(scored: Scored, values: Sequence[str]) -> list[SegmentRatio]:
    """Return the ratio of each of the 12 values with the most rows, ties by name, and of all others together."""
    counts = sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))
    code_of = {value: i for i, (value, _) in enumerate(counts[:NUM_SEGMENT_VALUES])}
    codes = np.fromiter((code_of.get(v, NUM_SEGMENT_VALUES) for v in values), np.int64, len(values))
    if len(counts) > NUM_SEGMENT_VALUES:
        code_of[f"{len(counts) - NUM_SEGMENT_VALUES:,} others"] = NUM_SEGMENT_VALUES
    ratios = []
    for value, code in code_of.items():
        here = codes == code
        y, p = scored.labels[here], scored.probabilities[here]
        low, high = calibration_interval(y, p)
        ratios.append(SegmentRatio(value, len(y), float(np.mean(y)), low, calibration_ratio(y, p), high))
    return ratios


def describe_calibration(calibration: Calibration) -> str:
    """Return how the model was calibrated, in a sentence."""
    return {
        "identity": "None: σ(logit).",
        "platt": f"Platt scaling, fitted on the validation part: p = σ({calibration.slope:.4f}·logit {calibration.intercept:+.4f}).",
        "isotonic": f"Isotonic regression, fitted on the validation part, {len(calibration.logits)} points.",
    }[calibration.method]


def describe_sampling(calibration: Calibration) -> str:
    """Return what figures of a log with dropped non-clicks mean, in a sentence; nothing if there are none."""
    if calibration.negatives_kept == 1.0:
        return ""
    kept = f"{calibration.negatives_kept:g}"
    return f" The log keeps {kept} of the non-clicks: figures here are for the log as it is; the service multiplies odds by {kept}."
