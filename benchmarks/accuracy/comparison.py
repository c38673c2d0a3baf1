"""Metrics of each system as mean over seeds, with intervals by user and paired differences to ctrserve, and their tables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.markdown import table
from models.evaluation.bootstrap import resample
from models.evaluation.metrics import Floats, Labels
from models.network.calibration import fit_calibration

METRICS = ("auc", "log_loss", "gauc", "calibration", "ece")
TITLES = ("AUC", "log loss", "GAUC", "Σp/Σy", "ECE")
OURS = "ctrserve"
NAMES = {
    OURS: "ctrserve",
    "logistic": "logistic regression, one-hot",
    "logistic_platt": "the same, calibrated",
    "fuxictr": "FuxiCTR DeepFM",
    "deepctr": "deepctr-torch DeepFM",
    "lightgbm": "LightGBM",
}


def compare(
    labels: Labels, predictions: Mapping[str, Sequence[Floats]], groups: NDArray[Any] | None
) -> dict[str, dict[str, Any]]:
    """Return, by system, each metric's mean over seeds, its 95 % interval, the seeds' values, and the difference to ctrserve.

    Every interval is of the mean over seeds, on the same resamples of the test part's users. The variation over seeds is given
    as a standard deviation.

    Args:
        labels: of the test part, [B].
        predictions: by system, ctrserve among them, one array of probabilities [B] per seed.
        groups: the user of each row, [B].
    """
    flat = [p for seeds in predictions.values() for p in seeds]
    resampled = resample(labels, flat, groups)
    first, weights = 0, {}
    for name, seeds in predictions.items():
        weights[name] = np.zeros(len(flat))
        weights[name][first : first + len(seeds)] = 1 / len(seeds)
        first += len(seeds)
    found: dict[str, dict[str, Any]] = {}
    for name, own in weights.items():
        found[name] = {}
        for metric in METRICS:
            by_seed = resampled.whole[metric][own > 0]
            about: dict[str, Any] = {
                "mean": resampled.value(metric, own.tolist()),
                "interval": resampled.interval(metric, own.tolist()),
                "seeds": by_seed.tolist(),
                "seeds_std": float(by_seed.std(ddof=1)) if len(by_seed) > 1 else None,
            }
            if name != OURS:
                difference = (own - weights[OURS]).tolist()
                about["minus_ctrserve"] = resampled.value(metric, difference)
                about["minus_ctrserve_interval"] = resampled.interval(metric, difference)
            found[name][metric] = about
    return found


def calibrated(validation_labels: Labels, validation: Floats, test: Floats) -> Floats:
    """Return test probabilities after ctrserve's own calibration step, fitted on a peer's validation probabilities."""
    fitted = fit_calibration(_logits(validation), np.asarray(validation_labels, np.float64))
    return fitted.of_log(_logits(test))


def _logits(probabilities: Floats) -> Floats:
    p = np.clip(probabilities, 1e-9, 1 - 1e-9)
    return np.log(p) - np.log1p(-p)


def accuracy_table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return Markdown: each system's metrics with their intervals.

    >>> one = {"mean": 0.75, "interval": (0.7, 0.8)}
    >>> print(accuracy_table({"lightgbm": dict.fromkeys(METRICS, one)}).splitlines()[2])
    | LightGBM | .7500 (.7000 to .8000) | .7500 (.7000 to .8000) | .7500 (.7000 to .8000) | .750 (.700 to .800) | .750 (.700 to .800) |
    """
    rows = [
        [NAMES[name], *(_cell(about[m]["mean"], about[m]["interval"], digits=_digits(m)) for m in METRICS)]
        for name, about in found.items()
    ]
    return table(["next day", *TITLES], rows)


def difference_table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return Markdown: each system's metrics minus ctrserve's, with paired intervals; bold where zero is outside."""
    rows = []
    for name, about in found.items():
        if name != OURS:
            cells = []
            for metric in METRICS:
                ends = about[metric]["minus_ctrserve_interval"]
                cell = _cell(about[metric]["minus_ctrserve"], ends, digits=_digits(metric), sign="+")
                cells.append(f"**{cell}**" if ends is not None and not ends[0] <= 0 <= ends[1] else cell)
            rows.append([NAMES[name], *cells])
    return table(["minus ctrserve", *TITLES], rows)


def _digits(metric: str) -> int:
    return 3 if metric in ("calibration", "ece") else 4


def _cell(value: float | None, ends: tuple[float, float] | None, *, digits: int, sign: str = "") -> str:
    texts = ["–" if x is None else re.sub(r"\b0\.", ".", f"{x:{sign}.{digits}f}") for x in (value, *(ends or ()))]
    return texts[0] if ends is None else f"{texts[0]} ({texts[1]} to {texts[2]})"
