"""The Gaussian prior of the table's rows, as a penalty on a batch: around zero, or around what an artifact has learnt."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.data.warm_start import Inheritance
from models.training.unique_rows import Unique


class GaussianPrior:
    """Spreads each row's penalty over its occurrences: ½·precision·Σ (v − mean)²/(b·c) over a batch's occurrences.

    c is how often the training rows hold the row, so a batch of b of n impressions pays ½·precision·(v − mean)²/n in
    expectation: the penalty of a logistic regression, at the cost of the batch's rows alone.

    The mean is zero, and for an artifact's rows their values there, the surer the more impressions they were learnt from. That
    is the Laplace approximation of their posterior (MacKay 1992): an impression adds p(1 − p) to the precision of a first-order
    weight; for an embedding's coordinates, whose factor in the logit is of the order of one, the same is taken.

    Args:
        precision: float32 [R, 2], 1 / variance of each row's coordinates and of its weight.
        counts: float64 [R, 2], c of each row's embedding and of its weight; those below one count as one.
        inheritance: an artifact's rows.
        label_variance: p(1 − p).
    """

    def __init__(
        self,
        precision: Tensor,
        counts: NDArray[np.float64],
        inheritance: Inheritance | None = None,
        label_variance: float = 0.25,
    ) -> None:
        self._precision = precision
        share = 1 / np.maximum(counts, 1)
        self._share = torch.from_numpy(share.astype(np.float32)).to(precision.device)  # [R, 2], of each occurrence
        self._inherited = inheritance
        if inheritance is not None:
            self._old_row: NDArray[np.int64] = np.full(len(counts), -1)
            self._old_row[inheritance.rows] = np.arange(len(inheritance.rows))
            self._certainty = (inheritance.counts * label_variance).astype(np.float32)

    def penalty(self, values: Tensor, unique: Unique, batch_size: int) -> Tensor:
        """Return the penalty of a batch, a scalar, differentiable in its rows' values float32 [U, E+1]."""
        precision, differences = self._precision.index_select(0, unique.rows), values  # [U, 2]
        if self._inherited is not None:
            means, certainty = self.inherited(unique.rows, values.shape[1])
            precision, differences = precision + certainty.unsqueeze(1), values - means
        shares = self._share.index_select(0, unique.rows) * unique.repeats.unsqueeze(1)  # [U, 2]
        squares = differences.square()
        by_part = torch.stack((squares[:, :-1].sum(dim=1), squares[:, -1]), dim=1)  # [U, 2]
        return (shares * precision * by_part).sum() / (2 * batch_size)

    def inherited(self, rows: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """Return the means float32 [U, width] of rows int64 [U], and what is added to their precision, float32 [U]."""
        assert self._inherited is not None
        old_rows = self._old_row[rows.numpy(force=True)]
        known = np.flatnonzero(old_rows >= 0)
        means: NDArray[np.float32] = np.zeros((len(rows), width), np.float32)
        certainty: NDArray[np.float32] = np.zeros(len(rows), np.float32)
        means[known] = self._inherited.table[old_rows[known]]
        certainty[known] = self._certainty[old_rows[known]]
        return torch.from_numpy(means).to(rows.device), torch.from_numpy(certainty).to(rows.device)
