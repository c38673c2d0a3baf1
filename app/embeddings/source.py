"""The interface by which scorers get embedding rows."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class EmbeddingSource(Protocol):
    """Rows of one table version by global row id; duplicates are allowed and the order is kept."""

    def fetch_now(self, ids: NDArray[np.int64]) -> NDArray[np.float32] | None:
        """Return the rows float32 [n, D] of ``ids`` int64 [n], or ``None`` where some have to be waited for."""
        ...

    async def fetch(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the rows float32 [n, D] of ``ids`` int64 [n]."""
        ...
