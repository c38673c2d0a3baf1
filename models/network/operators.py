"""Compiled CPU operators of the DeepFM head, differentiable by autograd; used by `models.network.deepfm`, which has their references.

They take contiguous float32 tensors on the CPU. Each result is a sum in one fixed order, so the same tensors give the same bits.
"""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

try:
    import models._native as native
except ImportError:  # pragma: no cover  # built without a compiler
    native = None  # type: ignore[assignment]

LONGEST_VECTOR = 16
"""Numbers of the longest vectors to use, 16, 8 or 4, where the processor has them."""


def is_compiled(*tensors: Tensor) -> bool:
    """Return whether there is compiled code for the tensors: float32, on the CPU."""
    return native is not None and all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors)


def trains_compiled(*tensors: Tensor) -> bool:
    """Return whether the operators here take the tensors; without gradients torch is as good."""
    return torch.is_grad_enabled() and is_compiled(*tensors)


def fm_and_first_layer(
    values: Tensor, weight: Tensor, index: Tensor, mask: Tensor, longest: int = LONGEST_VECTOR
) -> tuple[Tensor, Tensor]:
    """Return first plus second order, float32 [B], and the first layer without its bias, float32 [B, H].

    The first layer is linear: it is applied to each distinct row once, and the results are summed over the fields.

    Args:
        values: float32 [U, E+1], the batch's distinct table rows, in the order of the fields; each belongs to one field.
        weight: float32 [H, F·E], of the first layer.
        index: int32 [B, F], which of the rows each field holds.
        mask: float32 [B, F], what each field's embedding is multiplied by; has no gradient.
        longest: see `LONGEST_VECTOR`.

    Raises:
        ValueError: the tensors do not fit together, or a row is of two fields.
    """
    fm, sums = _FMAndFirstLayer.apply(values, weight, index, mask, longest)  # type: ignore[no-untyped-call]
    return fm, sums


def rectified_layers(x: Tensor, bias: Tensor, *layers: Tensor, longest: int = LONGEST_VECTOR) -> Tensor:
    """Return the logits float32 [B] of relu(x + bias) through linear layers with rectifiers between them.

    Args:
        x: float32 [B, H].
        bias: float32 [H].
        layers: weight and bias of each layer, the last of width 1.
        longest: see `LONGEST_VECTOR`.

    Raises:
        ValueError: the tensors do not fit together.
    """
    logits: Tensor = _RectifiedLayers.apply(longest, x, bias, *layers)  # type: ignore[no-untyped-call]
    return logits


class _FMAndFirstLayer(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, values: Tensor, weight: Tensor, index: Tensor, mask: Tensor, longest: int
    ) -> tuple[Tensor, Tensor]:
        B = len(index)
        fm, sums, totals = torch.empty(B), torch.empty(B, len(weight)), torch.empty(B, values.shape[1] - 1)
        native.first_layer(longest, *map(_array, (values, weight, index, mask, sums, totals, fm)))
        ctx.save_for_backward(values, weight, index, mask, totals)
        ctx.longest = longest
        return fm, sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_fm: Tensor, by_sums: Tensor) -> tuple[Tensor | None, ...]:
        values, weight, index, mask, totals = ctx.saved_tensors
        by_values, by_weight = torch.empty_like(values), torch.empty_like(weight)
        arrays = (values, weight, index, mask, by_sums, by_fm, totals, by_values, by_weight)
        native.first_layer_backward(ctx.longest, *map(_array, arrays))
        return by_values, by_weight, None, None, None


class _RectifiedLayers(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, longest: int, x: Tensor, bias: Tensor, *layers: Tensor) -> Tensor:
        logits = torch.empty(len(x))
        ctx.activations = native.hidden_layers(longest, *map(_array, (x, bias, logits, *layers)))
        ctx.save_for_backward(x, bias, *layers)
        ctx.longest = longest
        return logits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_logits: Tensor) -> tuple[Tensor | None, ...]:
        inputs: tuple[Tensor, ...] = ctx.saved_tensors
        gradients = [torch.empty_like(tensor) for tensor in inputs]
        layers = []
        for i in range(2, len(inputs), 2):
            layers += [*inputs[i : i + 2], *gradients[i : i + 2]]  # weight, bias and theirs
        arrays = map(_array, (by_logits, *gradients[:2], *layers))
        native.hidden_layers_backward(ctx.longest, ctx.activations, *arrays)
        return None, *gradients


def _array(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.detach().contiguous().numpy()
    return array
