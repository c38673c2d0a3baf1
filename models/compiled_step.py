"""A step by distinct rows, compiled: what `models.distinct_step` does with torch, and that where there is no compiled code.

Each distinct row's part of the first layer stands beside its embedding, so one pass over the values sums all that an
impression needs, and one pass over the rows, each with the impressions that hold it, all that a gradient needs. Nothing of the
size of [U, H] is read twice. Rectified layers behind the first are compiled as well. Used by `models.learner`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.deepfm import DeepFMHead
from models.distinct_step import differentiate_rows
from models.optimizers import LONGEST

try:
    from models._native import Deep
    from models._native import Step as CompiledStep
except ImportError:  # pragma: no cover  # built without a compiler
    CompiledStep = None  # type: ignore[assignment,misc]

FEW_ROWS = 3 if CompiledStep is None else 1
"""A batch with so many values for each distinct row is learnt from by distinct rows; compiled that is quicker for all."""
FEW_THREADS = 2
"""With so many or fewer the hidden layers are quicker here, in one thread; with more torch takes its own."""


class DistinctStep:
    """Loss and gradients of one head's batches; keeps its memory from one to the next, so is for one thread.

    Args:
        head: of the model.
    """

    def __init__(self, head: DeepFMHead) -> None:
        self.head = head
        first = head.deep[0]
        assert isinstance(first, nn.Linear), "every deep part begins with one"
        self._first = first
        sizes = head.num_fields, head.config.embedding_dim, first.out_features, LONGEST
        self._compiled = None if CompiledStep is None else CompiledStep(*sizes)
        self._layers = _rectified(head.deep)
        self._deep = None if CompiledStep is None else _compiled_deep(self._layers)

    def differentiate(
        self, values: Tensor, bounds: NDArray[np.int64], index: Tensor, kept: Tensor, labels: Tensor
    ) -> tuple[float, Tensor]:
        """Return and fill what `differentiate_rows` does, given the same."""
        if self._compiled is None:
            return differentiate_rows(self.head, values, bounds, index, kept, labels)
        head, first, b = self.head, self._first, len(labels)
        hidden = torch.empty(b, first.out_features)
        totals, first_two = torch.empty(b, values.shape[1] - 1), torch.empty(b)
        with torch.no_grad():
            weight = first.weight.numpy()
            batch = values.numpy(), weight, bounds, index.numpy(), kept.numpy()
            self._compiled.forward(*batch, first.bias.numpy(), hidden.numpy(), totals.numpy(), first_two.numpy())
            head.zero_grad(set_to_none=True)
        deep, differentiate = self._behind_first(hidden)
        with torch.no_grad():
            logits = head.bias + first_two + deep
            loss = functional.binary_cross_entropy_with_logits(logits, labels).item()
            g = (torch.sigmoid(logits) - labels) / b  # [b]
            by_hidden = differentiate(g)
            head.bias.grad, first.bias.grad = g.sum(), by_hidden.sum(dim=0)
            gradient, first.weight.grad = torch.empty_like(values), torch.empty_like(first.weight)
            by_weight = first.weight.grad.numpy()
            self._compiled.backward(*batch, by_hidden.numpy(), g.numpy(), totals.numpy(), gradient.numpy(), by_weight)
        return loss, gradient

    def _behind_first(self, hidden: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        # The deep part's logits float32 [b] of the first layer's sums float32 [b, H]; and what fills the gradients of the
        # layers behind it, given that of the logits float32 [b], and returns that of the sums float32 [b, H].
        compiled, layers = self._deep, self._layers
        if compiled is not None and torch.get_num_threads() <= FEW_THREADS:
            logits, parameters = torch.empty(len(hidden)), [p for layer in layers for p in (layer.weight, layer.bias)]
            arrays = tuple(p.detach().numpy() for p in parameters)
            compiled.forward(hidden.numpy(), arrays, logits.numpy())

            def differentiate(by_logit: Tensor) -> Tensor:
                by_hidden = torch.empty_like(hidden)
                for p in parameters:
                    p.grad = torch.empty_like(p)
                gradients = tuple(p.grad.numpy() for p in parameters if p.grad is not None)
                compiled.backward(by_logit.numpy(), arrays, by_hidden.numpy(), gradients)
                return by_hidden

            return logits, differentiate
        deep = self.head.deep[1:](hidden.requires_grad_()).squeeze(1)

        def differentiate_by_torch(by_logit: Tensor) -> Tensor:
            deep.backward(by_logit)
            assert hidden.grad is not None
            return hidden.grad.contiguous()

        return deep.detach(), differentiate_by_torch


def _rectified(deep: nn.Sequential) -> list[nn.Linear]:
    # The linear layers behind the first one where all that is between them are rectifiers; none where there is more.
    behind = list(deep)[1:]
    linear = [layer for layer in behind[1::2] if isinstance(layer, nn.Linear)]
    rectifiers = [layer for layer in behind[::2] if isinstance(layer, nn.ReLU)]
    return linear if len(linear) + len(rectifiers) == len(behind) else []


def _compiled_deep(layers: list[nn.Linear]) -> Deep | None:
    if not layers:
        return None
    try:
        return Deep(tuple(layer.in_features for layer in layers), LONGEST)
    except NotImplementedError:  # no kernels for this processor
        return None
