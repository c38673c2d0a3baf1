"""Table rows that have the embedding of another row: a token of a sequence, and the same token as a value of its own."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.training.unique_rows import Unique


class Ties:
    """Keeps tied rows equal: only the owner's embedding is learnt, and copied before the table is read elsewhere.

    Args:
        embedding_rows: int64 [R], the row whose embedding each row has: its own, or the owner's.
        device: of the table.
    """

    def __init__(self, embedding_rows: NDArray[np.int64], device: torch.device) -> None:
        self._owners = torch.from_numpy(embedding_rows).to(device)
        self._tied = torch.from_numpy(np.flatnonzero(embedding_rows != np.arange(len(embedding_rows)))).to(device)

    def close(self, unique: Unique) -> tuple[Unique, Tensor]:
        """Add the owners of a batch's rows; return that, and the place of each row's owner among them, int64 [U]."""
        both = torch.cat((unique.rows, self._owners.index_select(0, unique.rows)))
        rows, places = torch.unique(both, return_inverse=True)
        own = places[: len(unique.rows)]
        repeats = torch.zeros_like(rows)
        repeats[own] = unique.repeats
        owners = torch.searchsorted(rows, self._owners.index_select(0, rows))
        return Unique(rows, own.index_select(0, unique.index.long()), repeats), owners

    def copy_embeddings(self, table: Tensor) -> None:
        """Give tied rows of the table float32 [R, E+1] their embeddings."""
        table[self._tied, :-1] = table[self._owners[self._tied], :-1]
