"""The update rule of the table: Adagrad with one step size for a row's embedding and one for its first-order weight."""

from __future__ import annotations

import torch
from torch import Tensor

from models.network.operators import LONGEST_VECTOR, is_compiled

try:
    from models._native import adagrad
except ImportError:  # pragma: no cover  # built without a compiler
    adagrad = None  # type: ignore[assignment]

EPS = 1e-8


class RowwiseAdagrad:
    """Adagrad (Duchi et al. 2011) by rows: it keeps two numbers a row instead of E + 1, and embeddings keep their direction.

    The embedding's step size comes from the mean of its squared gradients, as in Mudigere et al. 2022. A step touches only the
    rows of its batch, so it costs the same however large the table is.

    Args:
        table: float32 [R, E+1], updated in place.
        longest: see `models.network.operators.LONGEST_VECTOR`.
    """

    def __init__(self, table: Tensor, longest: int = LONGEST_VECTOR) -> None:
        self.table = table
        self.squares = table.new_zeros(len(table), 2)  # sums of squared gradients: of embeddings, of weights
        self._longest = longest

    def step(self, rows: Tensor, gradient: Tensor, learning_rate: float) -> None:
        """Update the rows int64 [U], all different, by their gradient float32 [U, E+1]."""
        if is_compiled(self.table, gradient):
            arrays = (t.numpy() for t in (rows, gradient.contiguous(), self.table, self.squares))
            adagrad(learning_rate, self._longest, *arrays)
            return
        squares = torch.stack((gradient[:, :-1].square().mean(dim=1), gradient[:, -1].square()), dim=1)  # [U, 2]
        squares += self.squares.index_select(0, rows)
        self.squares.index_copy_(0, rows, squares)
        steps = -learning_rate / (squares.sqrt() + EPS)
        update = torch.cat((gradient[:, :-1] * steps[:, :1], gradient[:, -1:] * steps[:, 1:]), dim=1)
        self.table.index_add_(0, rows, update)
