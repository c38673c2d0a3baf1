"""Finds the fields that interact: those in a pair whose tokens together say more than the first order does.

For each pair of fields the residuals y − p of the first order are summed over the impressions with the same two tokens. The
excess of Σ (Σ r)² over what independent clicks give is the score test of a random effect of the pair (Lin 1997). It takes one
pass over a sample for each pair and no training.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from models.evaluation.metrics import Labels
from models.features.packed_rows import PackedRows
from models.network.calibration import sigmoid

MAX_ROWS = 200_000
MAX_LOOK_UPS = 300_000_000
"""Impressions of the sample times pairs; about ten seconds."""
MAX_CELLS = 1 << 18
"""Pairs of tokens are hashed into so many cells where there are more."""
MARGIN = 0.5
"""By which the test of a pair must exceed what the largest of so many would reach by chance, in standard errors."""

Floats = NDArray[np.float64]


def interacting_fields(
    rows: PackedRows, labels: Labels, logits: Floats, missing_rows: NDArray[np.int64], seed: int
) -> NDArray[np.bool_]:
    """Return whether each field interacts with another, bool [F].

    Args:
        rows: B training impressions; of a sequence one random token stands for all.
        labels: 0 or 1, [B].
        logits: of the first order, [B].
        missing_rows: the first table row of each field, int64 [F].
        seed: of the sample.
    """
    F = rows.num_fields
    pairs = list(combinations(range(F), 2))
    interacts = np.zeros(F, np.bool_)
    if not pairs:
        return interacts
    rng = np.random.default_rng(seed)
    most = min(MAX_ROWS, MAX_LOOK_UPS // len(pairs))
    if len(rows) > most:
        drawn = np.sort(rng.choice(len(rows), most, replace=False))
        rows, labels, logits = rows.select(drawn, rows.row_starts()), labels[drawn], logits[drawn]
    tokens, weights = _one_of_each_bag(rows, rng)
    tokens -= missing_rows
    sizes = tokens.max(axis=0) + 1
    p = sigmoid(logits)
    scores: Floats = (np.asarray(labels, np.float64) - p)[:, np.newaxis] * weights
    information: Floats = (p * (1 - p))[:, np.newaxis] * np.square(weights)
    threshold = np.sqrt(2 * np.log(max(len(pairs), 2))) + MARGIN
    for f, g in pairs:
        cells, num_cells = tokens[:, f] * sizes[g] + tokens[:, g], int(sizes[f] * sizes[g])
        if num_cells > MAX_CELLS:
            cells, num_cells = _hash(cells), MAX_CELLS
        of_pair = scores[:, f] * weights[:, g], information[:, f] * np.square(weights[:, g])
        if _score(cells, num_cells, *of_pair) > threshold:
            interacts[[f, g]] = True
    return interacts


def _score(cells: NDArray[np.int64], num_cells: int, scores: Floats, information: Floats) -> float:
    # The excess in standard errors: its variance without an effect is 2 Σ_{i≠j} hᵢhⱼ within cells.
    excess = float(np.square(np.bincount(cells, scores, num_cells)).sum() - np.square(scores).sum())
    shared = float(np.square(np.bincount(cells, information, num_cells)).sum() - np.square(information).sum())
    return excess / np.sqrt(2 * shared) if shared > 0 else 0.0


def _one_of_each_bag(rows: PackedRows, rng: np.random.Generator) -> tuple[NDArray[np.int64], Floats]:
    # A random table row of each bag and what it is multiplied by, [B, F].
    B, F = len(rows), rows.num_fields
    if rows.lengths is None:
        return rows.ids.reshape(B, F).astype(np.int64), np.ones((B, F))
    lengths = rows.lengths.astype(np.int64)
    ends = np.cumsum(lengths.reshape(-1)).reshape(B, F)
    places = ends - 1 - (rng.random((B, F)) * lengths).astype(np.int64)
    return rows.ids[places].astype(np.int64), rows.weights()[places].astype(np.float64)


def _hash(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    # Multiplicative (Knuth 1973): the upper bits of a product with 2^64 ÷ the golden ratio.
    mixed = cells.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    hashed: NDArray[np.int64] = (mixed >> np.uint64(64 - MAX_CELLS.bit_length() + 1)).astype(np.int64)
    return hashed
