"""The parts of a logit: bias, each field's first order, every pair of fields' second order, and the deep part by field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.features.request_reader import keep_cpu
from models.network.head import DeepFMConfig, Floats
from models.network.integrated_gradients import Array, DeepPart


class Contributions(NamedTuple):
    """What the parts of the model contribute to the logit of one impression; `total` is their sum.

    Args:
        bias: the logit of an impression whose fields all have the row zero, which is the mean of the rows' prior.
        first_order: of each field, float64 [F].
        second_order: ⟨v_i, v_j⟩ of each pair of fields i < j, (0, 1), (0, 2), …, float64 [F·(F−1)/2].
        deep: of each field, float64 [F], by integrated gradients from the row zero.
    """

    bias: float
    first_order: Array
    second_order: Array
    deep: Array

    @property
    def total(self) -> float:
        """The logit."""
        return float(self.bias + self.first_order.sum() + self.second_order.sum() + self.deep.sum())


class Contributor:
    """Takes a model's logits apart.

    Args:
        config: sizes.
        num_fields: F.
        tensors: as `models.network.head.head_tensors` says.
        yield_cpu: called after each millisecond of work or so.
    """

    def __init__(
        self,
        config: DeepFMConfig,
        num_fields: int,
        tensors: Mapping[str, NDArray[np.generic]],
        yield_cpu: Callable[[], None] = keep_cpu,
    ) -> None:
        self._deep = DeepPart(config, tensors, yield_cpu)
        self._shape = num_fields, config.embedding_dim + 1
        at_zero = self._deep.outputs(np.zeros((1, num_fields * config.embedding_dim)))[0]
        self._bias = float(tensors["bias"] + at_zero)
        self._pairs = np.triu_indices(num_fields, 1)

    def contributions(self, fields: Floats) -> Contributions:
        """Return the contributions to the logit of one impression.

        Args:
            fields: float32 [F·(E+1)], each field's vector, as `models.network.head.Pooled` has it.
        """
        rows = fields.astype(np.float64).reshape(self._shape)
        embeddings = rows[:, :-1]
        deep = self._deep.contributions(embeddings.reshape(-1)).reshape(embeddings.shape).sum(axis=1)
        return Contributions(self._bias, rows[:, -1], (embeddings @ embeddings.T)[self._pairs], deep)
