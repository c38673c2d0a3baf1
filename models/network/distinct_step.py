"""A step's loss and gradients from a batch's distinct rows, for fields of one value each with a block of their own.

The deep part's first layer is linear, so it is applied to each distinct row once and the results are summed over an impression's
fields; backwards the gradients of the hidden units are summed for each row first. A batch of 4,096 impressions of 39
fields has 160,000 values but some thousand rows. Used by `models.training.train_step`; equal to its general step but for rounding.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.nn import functional

from models.network.deepfm import DeepFMHead


def differentiate_rows(
    head: DeepFMHead, values: Tensor, bounds: NDArray[np.int64], index: Tensor, kept: Tensor, labels: Tensor
) -> tuple[float, Tensor]:
    """Return the mean log loss and its gradient by ``values``, float32 [U, E+1]; fill the gradients of the head.

    Args:
        head: of the model.
        values: float32 [U, E+1], the batch's distinct rows, field by field.
        bounds: int64 [F + 1], where each field's rows begin.
        index: int64 [b·F], which of the rows each value is.
        kept: float32 [b, F], what an embedding is multiplied with.
        labels: float32 [b].
    """
    first, embeddings = head.deep[0], values[:, :-1].contiguous()  # [U, E]
    assert isinstance(first, nn.Linear), "every deep part begins with one"
    b, F = kept.shape
    weights, offsets, H = kept.flatten(), torch.arange(0, b * F + 1, F), first.out_features
    with torch.no_grad():
        projected = torch.empty(len(values), H)
        for rows, columns in _by_field(bounds, embeddings.shape[1]):
            torch.mm(embeddings[rows], first.weight[:, columns].T, out=projected[rows])
        hidden = _sums(projected, index, offsets, weights) + first.bias  # [b, H]
    deep = head.deep[1:](hidden.requires_grad_()).squeeze(1)
    with torch.no_grad():
        total = _sums(embeddings, index, offsets, weights)  # [b, E], Σ_j v_j
        squares = embeddings.square().sum(dim=1).index_select(0, index).view(b, F).mul_(kept).mul_(kept).sum(dim=1)
        first_order = values[:, -1].index_select(0, index).view(b, F).sum(dim=1)
        logits = head.bias + first_order + 0.5 * (total.square().sum(dim=1) - squares) + deep
        loss = functional.binary_cross_entropy_with_logits(logits, labels).item()
        g = (torch.sigmoid(logits) - labels) / b  # [b]
        head.zero_grad(set_to_none=True)
        deep.backward(g)
        assert hidden.grad is not None
        head.bias.grad, first.bias.grad = g.sum(), hidden.grad.sum(dim=0)
        first.weight.grad = torch.zeros_like(first.weight)
        by_row = csr_array((weights.numpy(), index.numpy(), offsets.numpy()), shape=(b, len(values))).T.tocsr()
        impressions, ends, shares = (torch.from_numpy(a) for a in (by_row.indices, by_row.indptr, by_row.data))
        hidden_by_row = _sums(hidden.grad, impressions, ends, shares)  # [U, H]
        gradient = torch.empty_like(values)
        # Of g·(Σ_j v_j − v_i), with v_i a row times what is kept of it, and of the weight:
        by_embedding = _sums(total * g.unsqueeze(1), impressions, ends, shares)
        own = np.bincount(index.numpy(), (kept * kept * g.unsqueeze(1)).flatten().numpy(), len(values))
        by_embedding.addcmul_(embeddings, torch.from_numpy(own.astype(np.float32)).unsqueeze(1), value=-1)
        for rows, columns in _by_field(bounds, embeddings.shape[1]):
            by_embedding[rows].addmm_(hidden_by_row[rows], first.weight[:, columns])
            first.weight.grad[:, columns] = hidden_by_row[rows].T @ embeddings[rows]
        gradient[:, :-1] = by_embedding
        gradient[:, -1] = torch.from_numpy(np.bincount(index.numpy(), g.repeat_interleave(F).numpy(), len(values)))
    return loss, gradient


def _by_field(bounds: NDArray[np.int64], width: int) -> Iterator[tuple[slice, slice]]:
    # Each field's rows, and its columns of the first layer.
    for f, (start, end) in enumerate(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)):
        if end > start:
            yield slice(start, end), slice(f * width, (f + 1) * width)


def _sums(rows: Tensor, index: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    return functional.embedding_bag(
        index, rows, offsets, mode="sum", per_sample_weights=weights, include_last_offset=True
    )
