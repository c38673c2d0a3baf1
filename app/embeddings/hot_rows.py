"""The hot head: the rows that training saw most often, which are never looked up in Redis."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.features.vocabulary import NUM_SPECIAL
from models.network.table_rows import take_rows


class HotRows:
    """The head of each block of the table.

    A block is one vocabulary: its two special rows, then its tokens, the most frequent first. All blocks are cut at the
    same training count, the lowest for which the heads fit ``hot_bytes``; if the whole table fits, all of it is hot. A
    head ends before the first row below the cut, so a block that is not ordered by frequency (hashed buckets) has a
    short head.

    Nothing is copied: the rows stay in the memory map, shared by all workers, and their pages stay in memory because
    they are in use. Gathering from a private copy took the same time.

    Args:
        rows: float32 [R, D].
        block_starts: int64 [V], ascending from 0.
        counts: int64 [R], how often training saw each row.
        hot_bytes: size of the head; the special rows are hot even when they do not fit.
    """

    def __init__(
        self, rows: NDArray[np.float32], block_starts: NDArray[np.int64], counts: NDArray[np.int64], hot_bytes: int
    ) -> None:
        self._rows = rows
        ends = np.append(block_starts[1:], len(rows))
        self.is_whole = rows.nbytes <= hot_bytes
        if self.is_whole:
            lengths = ends - block_starts
        else:
            lengths = _head_lengths(block_starts, ends, counts, hot_bytes // (rows.itemsize * rows.shape[1]))
        self.num_rows = int(lengths.sum())
        # Starts and ends of all heads in turn: an id that is at or above an odd number of them is hot.
        self._boundaries = np.stack([block_starts, block_starts + lengths], axis=1).ravel()

    def gather(self, ids: NDArray[np.int64]) -> NDArray[np.float32] | None:
        """Return the rows float32 [n, D] of ``ids`` int64 [n], or ``None`` when one of them is not hot."""
        if self.is_whole or self._is_hot(ids).all():
            return take_rows(self._rows, ids)
        return None

    def split(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
        """Return rows float32 [n, D], filled where hot, and the positions of those that are not, intp [cold]."""
        is_hot = self._is_hot(ids)
        rows = np.empty((len(ids), self._rows.shape[1]), np.float32)
        rows[is_hot] = self._rows.take(ids[is_hot], axis=0)
        return rows, np.flatnonzero(~is_hot)

    def _is_hot(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        return (self._boundaries.searchsorted(ids, "right") & 1).astype(np.bool_)


def _head_lengths(
    starts: NDArray[np.int64], ends: NDArray[np.int64], counts: NDArray[np.int64], max_rows: int
) -> NDArray[np.int64]:
    """Return how many rows of each block are hot, int64 [V]: the special ones, and tokens seen more often than the cut."""
    num_special: NDArray[np.int64] = np.minimum(ends - starts, NUM_SPECIAL)
    room = max(0, max_rows - int(num_special.sum()))
    # The counts of each block's tokens, none above the count of an earlier token.
    falling = [
        np.minimum.accumulate(counts[start + NUM_SPECIAL : end]) for start, end in zip(starts, ends, strict=True)
    ]
    together = np.concatenate(falling)
    if room >= len(together):
        return ends - starts
    cut = np.partition(together, -1 - room)[-1 - room]  # of the most frequent token for which there is no room
    return num_special + np.array([np.count_nonzero(tokens > cut) for tokens in falling], np.int64)
