"""The head in torch, for scoring where the C extension is not built. See `models.network.head.Head`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.network.deepfm import DeepFMHead, second_order_of_sums
from models.network.head import DeepFMConfig, Floats, Pooled, SideActivations


class TorchHead:
    """`DeepFMHead` in evaluation mode.

    Args:
        config: sizes.
        num_fields: F.
        tensors: as `models.network.head.head_tensors` says.
    """

    def __init__(self, config: DeepFMConfig, num_fields: int, tensors: Mapping[str, NDArray[np.generic]]) -> None:
        with torch.device("meta"):  # draws no weights
            self._module = DeepFMHead(config, num_fields)
        state = {name: torch.tensor(array) for name, array in tensors.items()}
        self._module.load_state_dict(state, assign=True)
        self._module.eval()
        self._weight, self._bias = self._module.deep[0].parameters()  # [H, F·E], [H]

    @torch.inference_mode()
    def logits(self, pooled: Pooled) -> Floats:
        """Return logits float32 [B]; see `Head`."""
        fields = torch.tensor(pooled.fields).view(-1, self._module.num_fields, self._module.config.embedding_dim + 1)
        return _array(self._module(fields))

    @torch.inference_mode()
    def side_activations(self, positions: Sequence[int], fields: Floats) -> SideActivations:
        """Return what some fields contribute; see `Head`."""
        F, E = self._module.num_fields, self._module.config.embedding_dim
        rows = torch.tensor(fields).view(len(fields), len(positions), E + 1)
        embeddings = rows[..., :-1]
        weight = self._weight.view(-1, F, E)[:, list(positions)]  # [H, F', E]
        hidden = torch.einsum("nfe,hfe->nh", embeddings, weight)
        product = torch.cat([hidden, rows.sum(dim=1)], dim=1)
        return SideActivations(_array(product), _array(embeddings.square().sum(dim=(1, 2))))

    @torch.inference_mode()
    def rank(self, context: SideActivations, candidates: SideActivations, places: NDArray[np.int64]) -> Floats:
        """Return logits float32 [n]; see `Head`."""
        if len(places) and not 0 <= places.min() <= places.max() < len(candidates.squares):
            raise ValueError(f"expected places among {len(candidates.squares)} candidates")
        product = torch.tensor(candidates.product[places] + context.product)
        squares = torch.tensor(candidates.squares[places] + context.squares)
        H = len(self._bias)
        second_order = second_order_of_sums(product[:, H:-1], squares)
        deep = self._module.deep[1:](product[:, :H] + self._bias)[:, 0]
        return _array(self._module.bias + product[:, -1] + second_order + deep)


def _array(tensor: Tensor) -> Floats:
    array: Floats = tensor.numpy()
    return array
