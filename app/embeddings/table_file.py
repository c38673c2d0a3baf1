"""The truth: the artifact's whole table, memory-mapped and shared by all workers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

try:
    from models._native import take_rows as compiled_take_rows
except ImportError:  # built without a compiler
    compiled_take_rows = None  # type: ignore[assignment]

MANY = 256
"""From so many rows on it pays to ask for memory ahead."""


def take_rows(table: NDArray[np.float32], ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the rows float32 [n, D] of a contiguous ``table`` float32 [R, D] at ``ids`` int64 [n].

    Raises:
        IndexError: there is no such row.
    """
    if compiled_take_rows is None or len(ids) < MANY:
        return table.take(ids, axis=0)
    dim = table.shape[1]
    return np.frombuffer(compiled_take_rows(table, dim, ids), np.float32).reshape(-1, dim)


class TableFile:
    """Every row of the table.

    Args:
        rows: float32 [R, D], read-only; usually a memory map of the artifact's file.
    """

    def __init__(self, rows: NDArray[np.float32]) -> None:
        self._rows = rows

    def gather(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the rows float32 [n, D] of ``ids`` int64 [n]."""
        return take_rows(self._rows, ids)
