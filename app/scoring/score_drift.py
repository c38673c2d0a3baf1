"""Compares the probabilities being served with those of the model's own held-out days."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from app.observability.metrics import SCORE_BOUNDS, Telemetry
from models.artifact.manifest import ScoreReference

MAX_PENDING = 2_048
"""Probabilities kept until they are counted; counting more at once would delay requests."""
WINDOW_ROWS = 20_000
MIN_ROWS = 1_000
SMALLEST_SHARE = 1e-4

Shares = NDArray[np.float64]


class ScoreMonitor:
    """Counts the probabilities of one model version, and computes their PSI against its reference.

    Args:
        reference: of the artifact; without one the PSI stays 0.
        telemetry: gets the counts and the PSI.
    """

    def __init__(self, reference: ScoreReference | None, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._bounds = np.array(SCORE_BOUNDS)
        self._pending = np.empty(MAX_PENDING)
        self._num_pending = 0
        self._edges = None if reference is None else np.array(reference.edges)
        self._expected = np.array([]) if reference is None else np.array(reference.shares)
        self._before = self._now = np.zeros(len(self._expected), np.int64)

    def note(self, probabilities: NDArray[np.float64]) -> None:
        """Keep probabilities float64 [B] until they are counted, which takes a fraction of a microsecond."""
        start, end = self._num_pending, self._num_pending + len(probabilities)
        if end > MAX_PENDING:
            self.count()
            start, end = 0, len(probabilities)
            if end > MAX_PENDING:
                self._count(probabilities)
                return
        self._pending[start:end] = probabilities
        self._num_pending = end

    def count(self) -> None:
        """Count the probabilities kept; called every few seconds."""
        if self._num_pending:
            self._count(self._pending[: self._num_pending])
            self._num_pending = 0

    def _count(self, scores: NDArray[np.float64]) -> None:
        found = np.bincount(self._bounds.searchsorted(scores), minlength=len(self._bounds) + 1)
        for bucket, number in zip(self._telemetry.score_buckets, found.tolist(), strict=True):
            if number:
                bucket.inc(number)
        if self._edges is None:
            self._telemetry.score_psi.set(0)  # replaces the value of the model before
            return
        # The window has two halves: a full younger one becomes the older one.
        self._now = self._now + np.bincount(
            self._edges.searchsorted(scores, side="right"), minlength=len(self._expected)
        )
        counted = self._before + self._now
        is_enough = counted.sum() >= MIN_ROWS
        psi = population_stability_index(self._expected, counted / counted.sum()) if is_enough else 0
        self._telemetry.score_psi.set(psi)
        if self._now.sum() >= WINDOW_ROWS // 2:
            self._before, self._now = self._now, np.zeros_like(self._now)


def population_stability_index(expected: Shares, found: Shares) -> float:
    """Return Σ (found − expected) · ln(found ÷ expected) over the same buckets (Siddiqi 2006); empty ones count as 1e-4.

    >>> round(population_stability_index(np.array([0.5, 0.5]), np.array([0.5, 0.5])), 3)
    0.0
    >>> round(population_stability_index(np.array([0.5, 0.5]), np.array([0.9, 0.1])), 3)  # 0.4 · ln 1.8 + 0.4 · ln 5
    0.879
    """
    e, f = np.maximum(expected, SMALLEST_SHARE), np.maximum(found, SMALLEST_SHARE)
    return float(((f - e) * np.log(f / e)).sum())
