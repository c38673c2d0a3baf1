"""The names of metrics for people, and in a manifest."""

from __future__ import annotations

from typing import Final

METRICS: Final = {
    "log loss": "log_loss",
    "NE": "normalized_entropy",
    "AUC": "auc",
    "GAUC": "gauc",
    "Σp/Σy": "calibration",
    "ECE": "ece",
}
"""By the name that tables show, the key in a manifest's metrics, which is the attribute of `models.evaluation.metrics.Metrics`."""
