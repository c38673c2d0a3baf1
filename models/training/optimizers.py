"""Update rules that touch only the table rows of a batch, so a step costs the same however large the table is.

One rule serves both parts: the dense head is updated whole, the table by gather and scatter of rows and their state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

try:
    from models._native import adagrad
except ImportError:  # pragma: no cover  # built without a compiler
    adagrad = None  # type: ignore[assignment]

DenseRule = Literal["adam", "adagrad", "sgd"]
RowRule = Literal["rowwise_adagrad", "adam", "adagrad", "sgd"]

SMALL = 1e-8
LONGEST = 16
"""Numbers of the longest vectors that compiled code is to use, of what the processor has."""


class Rule(NamedTuple):
    """An optimizer: how many state tensors it keeps, how wide their last axis is, and its update.

    ``update(gradient, state, step, learning_rate)`` returns what to add to the values and changes ``state`` in place;
    ``step`` counts all steps from 1, so rows that a batch leaves out keep their state (as in torch's SparseAdam).
    """

    num_states: int
    state_width: int | None
    """``None``: as wide as the values."""
    update: Callable[[Tensor, Sequence[Tensor], int, float], Tensor]


def _sgd(gradient: Tensor, state: Sequence[Tensor], step: int, learning_rate: float) -> Tensor:
    return gradient * -learning_rate


def _adagrad(gradient: Tensor, state: Sequence[Tensor], step: int, learning_rate: float) -> Tensor:
    # Duchi et al. 2011, per coordinate.
    (sum_of_squares,) = state
    sum_of_squares.addcmul_(gradient, gradient)
    return gradient.div(sum_of_squares.sqrt().add_(SMALL)).mul_(-learning_rate)


def _rowwise_adagrad(gradient: Tensor, state: Sequence[Tensor], step: int, learning_rate: float) -> Tensor:
    # Adagrad with one step size for a row's embedding, by its mean square, and one for its first-order weight:
    # two numbers of state a row instead of E + 1, and embeddings keep their direction.
    (sum_of_squares,) = state  # [U, 2]
    embedding, weight = gradient[:, :-1], gradient[:, -1]  # [U, E], [U]
    sum_of_squares[:, 0] += torch.linalg.vector_norm(embedding, dim=1).square_().div_(embedding.shape[1])
    sum_of_squares[:, 1] += weight.square()
    steps = sum_of_squares.sqrt().add_(SMALL).reciprocal_().mul_(-learning_rate)
    update = gradient * steps[:, :1]
    torch.mul(weight, steps[:, 1], out=update[:, -1])
    return update


def _adam(gradient: Tensor, state: Sequence[Tensor], step: int, learning_rate: float) -> Tensor:
    # Kingma & Ba 2015, Algorithm 1, β = (0.9, 0.999).
    mean, square = state
    mean.lerp_(gradient, 0.1)
    square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
    scale = learning_rate / (1 - 0.9**step)
    return mean.div((square / (1 - 0.999**step)).sqrt_().add_(SMALL)).mul_(-scale)


RULES: Mapping[RowRule, Rule] = {
    "rowwise_adagrad": Rule(1, 2, _rowwise_adagrad),
    "adam": Rule(2, None, _adam),
    "adagrad": Rule(1, None, _adagrad),
    "sgd": Rule(0, None, _sgd),
}


class DenseOptimizer:
    """Applies a rule to whole tensors, from their ``.grad``."""

    def __init__(self, rule: Rule, parameters: Sequence[Tensor]) -> None:
        self.rule = rule
        self.parameters = parameters
        self.state = [[torch.zeros_like(p) for _ in range(rule.num_states)] for p in parameters]

    def step(self, step: int, learning_rate: float) -> None:
        """Update every parameter that has a gradient."""
        for parameter, state in zip(self.parameters, self.state, strict=True):
            if parameter.grad is not None:
                parameter.data += self.rule.update(parameter.grad, state, step, learning_rate)


class RowOptimizer:
    """Applies a rule to some rows of a table float32 [R, D], given their gradients."""

    def __init__(self, rule: Rule, table: Tensor) -> None:
        self.rule = rule
        self.table = table
        width = rule.state_width or table.shape[1]
        self.state = [torch.zeros(len(table), width) for _ in range(rule.num_states)]

    def step(self, touched: Tensor, gradient: Tensor, step: int, learning_rate: float) -> None:
        """Update the rows ``touched`` int64 [U], all different, by ``gradient`` float32 [U, D]."""
        state = [s.index_select(0, touched) for s in self.state]
        self.table.index_add_(0, touched, self.rule.update(gradient, state, step, learning_rate))
        for whole, part in zip(self.state, state, strict=True):
            whole.index_copy_(0, touched, part)

    def step_decayed(
        self,
        touched: Tensor,
        values: Tensor,
        gradient: Tensor,
        decay: Tensor,
        precision: Tensor,
        step: int,
        learning_rate: float,
    ) -> None:
        """Do `step` with what a Gaussian prior with mean zero adds to the gradient, which may be written into.

        Args:
            touched: int64 [U], all different.
            values: float32 [U, D], these rows.
            gradient: float32 [U, D], without the prior's.
            decay: float32 [R], what a row pays when it is touched, see `models.training.train_step.lazy_decay`.
            precision: float32 [D], of the prior.
            step: counts all steps from 1.
            learning_rate: step size.
        """
        if adagrad is not None and self.rule is RULES["rowwise_adagrad"]:
            (squares,) = self.state
            arrays = (touched, values, gradient, decay, precision, self.table, squares)
            adagrad(learning_rate, LONGEST, *(a.numpy() for a in arrays))
            return
        gradient.addcmul_(values, decay.index_select(0, touched).unsqueeze(1) * precision)
        self.step(touched, gradient, step, learning_rate)


class DistinctRows:
    """Finds the distinct rows of a batch, without sorting all its ids and without a pass over the table.

    In numpy, whose look-ups take a tenth of the time of torch's.

    >>> touched, index = DistinctRows(10).find(torch.tensor([7, 3, 7]))
    >>> touched.tolist(), touched[index].tolist()
    ([3, 7], [7, 3, 7])
    """

    def __init__(self, num_rows: int) -> None:
        self._slot: NDArray[np.int32] = np.zeros(num_rows, np.int32)

    def find(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return the distinct ids int64 [U], ascending, and for each of ``ids`` int64 [N] which of them it is, int64 [N]."""
        places = ids.numpy()
        at = np.arange(len(places), dtype=np.int32)
        self._slot[places] = at  # where an id repeats, its last place stays
        touched = np.sort(places[self._slot.take(places) == at])
        self._slot[touched] = at[: len(touched)]
        return torch.from_numpy(touched), torch.from_numpy(self._slot.take(places).astype(np.int64))
