"""The distinct table rows of a batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Unique:
    """The distinct ids of a batch."""

    rows: Tensor
    """In ascending order, int64 [U]."""
    index: Tensor
    """Which of them each id is, int32 or int64 [N]."""
    repeats: Tensor
    """How often each occurs, int64 [U]."""


class UniqueRows:
    """Finds the distinct ids of a batch; on the CPU without sorting all of them, which would take most of a step.

    >>> UniqueRows(10).find(torch.tensor([7, 3, 7]))
    Unique(rows=tensor([3, 7]), index=tensor([1, 0, 1], dtype=torch.int32), repeats=tensor([1, 2]))

    Args:
        num_rows: ids are below it.
    """

    def __init__(self, num_rows: int) -> None:
        self._slot: NDArray[np.int32] = np.zeros(num_rows, np.int32)

    def find(self, ids: Tensor) -> Unique:
        """Return what is distinct in ids int32 [N], on their device."""
        if ids.device.type != "cpu":
            rows, index, repeats = torch.unique(ids, return_inverse=True, return_counts=True)
            return Unique(rows.long(), index, repeats)
        given = ids.numpy()
        places = given.astype(np.int64)  # once, not in each look-up
        at = np.arange(len(places), dtype=np.int32)
        self._slot[places] = at  # where an id repeats, its last place stays
        distinct = np.sort(given.take(np.flatnonzero(self._slot.take(places) == at))).astype(np.int64)
        self._slot[distinct] = at[: len(distinct)]
        index = self._slot.take(places)
        repeats = np.bincount(index, minlength=len(distinct))
        return Unique(*map(torch.from_numpy, (distinct, index, repeats)))
