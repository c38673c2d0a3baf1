"""The truth: the artifact's whole table, memory-mapped and shared by all workers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class TableFile:
    """Every row of the table.

    Args:
        rows: float32 [R, D], read-only; usually a memory map of the artifact's file.
    """

    def __init__(self, rows: NDArray[np.float32]) -> None:
        self._rows = rows

    def gather(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the rows float32 [n, D] of ``ids`` int64 [n]."""
        return self._rows.take(ids, axis=0)
