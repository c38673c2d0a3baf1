"""The deep part after its first layer, forwards and backwards: compiled where it is rectified layers alone, else by autograd.

Both fill the gradients of the head's deep part but for the first layer's weight.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.network.deepfm import DeepFMHead
from models.training.optimizers import LONGEST

try:
    from models._native import HiddenLayers
except ImportError:  # pragma: no cover  # built without a compiler
    HiddenLayers = None  # type: ignore[assignment,misc]


FEW_THREADS = 3
"""With so many or fewer of torch's, one thread of compiled code is quicker."""


class Layers(Protocol):
    """What comes after the first layer's sums."""

    def forward(self, sums: Tensor) -> Tensor:
        """Return the deep part's logits float32 [b] of the first layer's sums, bias included, float32 [b, H]."""

    def backward(self, by_logit: Tensor) -> Tensor:
        """Return the gradient float32 [b, H] by the sums of the last `forward`, given that by its logits float32 [b].

        Gradients of the layers' weights and biases, and of the first layer's bias, are written; the returned one is
        valid until the next `backward`.
        """


def layers_of(head: DeepFMHead, threads: int) -> Layers:
    """Return the quickest there is for a head.

    Args:
        head: of the model.
        threads: of torch.
    """
    rectified = len(head.deep) > 1 and all(isinstance(layer, nn.Linear | nn.ReLU) for layer in head.deep)
    compiled = HiddenLayers is not None and rectified and threads <= FEW_THREADS
    return CompiledLayers(head) if compiled else AutogradLayers(head)


class AutogradLayers:
    """By torch, of whatever the head's deep part is made."""

    def __init__(self, head: DeepFMHead) -> None:
        self._rest, self._first = head.deep[1:], head.deep[0]
        self._sums = self._logits = torch.empty(0)

    def forward(self, sums: Tensor) -> Tensor:
        """As in `Layers`."""
        self._sums = sums.detach().requires_grad_()
        with torch.enable_grad():
            self._logits = self._rest(self._sums).squeeze(1)
        return self._logits.detach()

    def backward(self, by_logit: Tensor) -> Tensor:
        """As in `Layers`."""
        self._rest.zero_grad(set_to_none=True)
        torch.autograd.backward(self._logits, by_logit)
        assert self._sums.grad is not None
        self._first.bias.grad = self._sums.grad.sum(dim=0)
        return self._sums.grad.contiguous()


class CompiledLayers:
    """In compiled code, for linear layers with rectifiers between them.

    Args:
        head: of the model.
        longest: numbers of the longest vectors to use.
    """

    def __init__(self, head: DeepFMHead, longest: int = LONGEST) -> None:
        self._compiled = HiddenLayers(longest)
        self._first, *self._rest = [layer for layer in head.deep if isinstance(layer, nn.Linear)]
        self._by_sums = torch.empty(0, self._first.out_features)

    def forward(self, sums: Tensor) -> Tensor:
        """As in `Layers`."""
        logits = torch.empty(len(sums))
        arrays = [array for layer in self._rest for array in (_array(layer.weight), _array(layer.bias))]
        self._compiled.forward(_array(sums), _array(logits), *arrays)
        return logits

    def backward(self, by_logit: Tensor) -> Tensor:
        """As in `Layers`."""
        b = len(by_logit)
        if len(self._by_sums) < b:  # kept, since new memory costs page faults
            self._by_sums = torch.empty(b, self._first.out_features)
        by_sums, arrays = self._by_sums[:b], []
        for layer in self._rest:
            arrays += [_array(layer.weight), _array(layer.bias), _array(_gradient(layer.weight))]
            arrays.append(_array(_gradient(layer.bias)))
        by_first_bias = _array(_gradient(self._first.bias))
        self._compiled.backward(_array(by_logit), _array(by_sums), by_first_bias, *arrays)
        return by_sums


def _gradient(parameter: Tensor) -> Tensor:
    # Where its gradient is to be written.
    if parameter.grad is None:
        parameter.grad = torch.empty_like(parameter)
    return parameter.grad


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.detach().numpy()
