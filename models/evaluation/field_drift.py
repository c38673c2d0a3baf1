"""How far the values of each field have moved between two parts of a log: the population stability index."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.features.encoder import FeatureEncoder
from models.features.packed_rows import PackedRows
from models.features.vocabulary import NUM_SPECIAL

NUM_BINS = 20
"""Frequent values, or ranges of a number, that have a bin of their own; beside missing, unseen and all others."""
MAX_ROWS = 200_000


def field_drifts(encoder: FeatureEncoder, before: PackedRows, after: PackedRows) -> list[float]:
    """Return each field's `stability_index`, from at most 200,000 evenly spaced impressions of each part.

    Args:
        encoder: the one that encoded both parts.
        before: training impressions, whose most frequent values define the bins.
        after: later impressions.
    """
    counts = [_counts(encoder, rows) for rows in (before, after)]
    drifts = []
    for f, field in enumerate(encoder.fields):
        first, second = (values[f] for values in counts)
        bins = _ranges(first) if field.spec.kind == "numeric" else _most_frequent(first)
        num_bins = int(bins.max()) + 1
        drifts.append(stability_index(*(np.bincount(bins, weights=c, minlength=num_bins) for c in (first, second))))
    return drifts


def stability_index(before: NDArray[np.number], after: NDArray[np.number]) -> float:
    """Return Σ (q − p)·ln(q/p) over the bins' shares p and q, minus what chance alone would give; 0 at least.

    Half a value is added to each count, so that an empty bin is finite. By convention, up to 0.1 is stable and more than 0.25
    a shift. By chance two samples of n and m values in k bins show (k − 1)(1/n + 1/m).

    Args:
        before: counts [k].
        after: counts [k].

    >>> round(stability_index(np.array([500.0, 500.0]), np.array([250.0, 750.0])), 2)
    0.27
    """
    p, q = ((counts + 0.5) / (counts.sum() + 0.5 * len(counts)) for counts in (before, after))
    chance = (len(before) - 1) * sum(1 / max(float(counts.sum()), 1.0) for counts in (before, after))
    return max(0.0, float(((q - p) * np.log(q / p)).sum()) - chance)


def _counts(encoder: FeatureEncoder, rows: PackedRows) -> list[NDArray[np.float64]]:
    # How often each field has each row of its block, float64.
    drawn = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MAX_ROWS)).astype(np.int64))
    sample = rows.select(drawn, rows.row_starts())
    F = sample.num_fields
    lengths = np.ones((len(sample), F), np.int64) if sample.lengths is None else sample.lengths.astype(np.int64)
    field_of = np.repeat(np.tile(np.arange(F, dtype=np.int16), len(sample)), lengths.reshape(-1))
    blocks = encoder.schema.num_tokens
    return [
        np.bincount(
            sample.ids[field_of == f] - field.start, minlength=blocks[field.spec.block] + NUM_SPECIAL
        ).astype(np.float64)
        for f, field in enumerate(encoder.fields)
    ]  # fmt: skip


def _most_frequent(counts: NDArray[np.float64]) -> NDArray[np.int64]:
    # The bin of each row of a block: missing, unseen, the most frequent values, all others.
    bins = np.full(len(counts), NUM_SPECIAL + NUM_BINS)
    bins[:NUM_SPECIAL] = range(NUM_SPECIAL)
    order = NUM_SPECIAL + np.argsort(-counts[NUM_SPECIAL:], kind="stable")[:NUM_BINS]
    bins[order] = NUM_SPECIAL + np.arange(len(order))
    return np.unique(bins, return_inverse=True)[1]


def _ranges(counts: NDArray[np.float64]) -> NDArray[np.int64]:
    # The bin of each row of a number's block: missing, and ranges of neighbours with about as many values each.
    of_values = counts[NUM_SPECIAL:]
    before = np.cumsum(of_values) - of_values
    ranges = (before * NUM_BINS / max(float(of_values.sum()), 1.0)).astype(np.int64)
    return np.concatenate((np.zeros(NUM_SPECIAL, np.int64), 1 + np.unique(ranges, return_inverse=True)[1]))
