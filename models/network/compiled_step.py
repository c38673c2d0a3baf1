"""A step by distinct rows, compiled: what `models.network.distinct_step` does with torch, and that where there is no compiled code.

Some units of the first layer at a time: each distinct row's part of them is computed and summed over the values while all
rows' parts are in the caches; backwards one pass over the rows, each with the impressions that hold it, sums their gradients
and takes them through the layer. Used by `models.training.train_step`.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.network.deepfm import DeepFMHead
from models.network.distinct_step import differentiate_rows
from models.network.hidden_layers import Layers
from models.training.optimizers import LONGEST

try:
    from models._native import Step as CompiledStep
except ImportError:  # pragma: no cover  # built without a compiler
    CompiledStep = None  # type: ignore[assignment,misc]

FEW_ROWS = 3 if CompiledStep is None else 1
"""A batch with so many values for each distinct row is learnt from by distinct rows; compiled that is quicker for all."""


class DistinctStep:
    """Loss and gradients of one head's batches; keeps its memory from one to the next, so is for one thread.

    Args:
        head: of the model.
        layers: what comes after its first layer.
    """

    def __init__(self, head: DeepFMHead, layers: Layers) -> None:
        self.head = head
        first = head.deep[0]
        assert isinstance(first, nn.Linear), "every deep part begins with one"
        self._first = first
        sizes = head.num_fields, head.config.embedding_dim, first.out_features, LONGEST
        self._compiled = None if CompiledStep is None else CompiledStep(*sizes)
        self._layers = layers
        self._sums = torch.empty(0, first.out_features)

    def differentiate(
        self, values: Tensor, bounds: NDArray[np.int64], index: Tensor, kept: Tensor, labels: Tensor
    ) -> tuple[float, Tensor]:
        """Return and fill what `differentiate_rows` does, given the same."""
        if self._compiled is None:
            return differentiate_rows(self.head, values, bounds, index, kept, labels)
        head, first, b = self.head, self._first, len(labels)
        if len(self._sums) < b:  # kept, since new memory costs page faults
            self._sums = torch.empty(b, first.out_features)
        sums, totals, first_two = self._sums[:b], torch.empty(b, values.shape[1] - 1), torch.empty(b)
        with torch.no_grad():
            weight = first.weight.numpy()
            batch = values.numpy(), weight, bounds, index.numpy(), kept.numpy()
            self._compiled.forward(*batch, first.bias.numpy(), sums.numpy(), totals.numpy(), first_two.numpy())
            logits = head.bias + first_two + self._layers.forward(sums)
            loss = functional.binary_cross_entropy_with_logits(logits, labels).item()
            g = (torch.sigmoid(logits) - labels) / b  # [b]
            head.bias.grad, by_sums = g.sum(), self._layers.backward(g)
            gradient = torch.empty_like(values)
            if first.weight.grad is None:
                first.weight.grad = torch.empty_like(first.weight)
            by_weight = first.weight.grad.numpy()
            self._compiled.backward(*batch, by_sums.numpy(), g.numpy(), totals.numpy(), gradient.numpy(), by_weight)
        return loss, gradient
