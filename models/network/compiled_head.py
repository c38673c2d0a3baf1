"""The head in C (``native/scoring/head.c``), without torch. See `models.network.head.Head`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from models.network.head import DeepFMConfig, Floats, HiddenLayer, Pooled, SideActivations, hidden_layer, layer_names

try:
    from models._native import Head as NativeHead
except ImportError:  # built without a C compiler
    NativeHead = None  # type: ignore[assignment,misc]

PRECOMPUTED_BYTES = 512 * 2**10
"""Room for precomputed products: more would not stay in a core's own cache."""


class CompiledHead:
    """A head in C. An impression has the same bits alone and among others.

    Fields of one value each that have few table rows are not multiplied by the first layer: their products are
    precomputed. Batch normalisation is folded into the weights.

    Args:
        config: sizes.
        num_fields: F.
        tensors: as `models.network.head.head_tensors` says.
        table: float32 [R, E+1], read for precomputed products.
        single_fields: the first table row and the one after the last of each field that is no sequence, by its position;
            as many as fit `PRECOMPUTED_BYTES`, those with the fewest rows first, are precomputed.
        longest: numbers in a vector of the processor, 16, 8 or 4; the longest that it has if it has no such.
    """

    def __init__(
        self,
        config: DeepFMConfig,
        num_fields: int,
        tensors: Mapping[str, NDArray[np.generic]],
        table: Floats | None = None,
        single_fields: Mapping[int, tuple[int, int]] | None = None,
        longest: int = 16,
    ) -> None:
        t = {name: array.astype(np.float32, copy=False) for name, array in tensors.items()}
        layers = [hidden_layer(config, t, i) for i in range(len(config.hidden))]
        output, _, _ = layer_names(config, len(config.hidden))
        last, bias = t[f"{output}.weight"], t[f"{output}.bias"]
        if not layers:  # one unit whose activation is the identity
            one = np.ones((1, 1), np.float32)
            layers = [HiddenLayer(np.ascontiguousarray(last.T), bias, "prelu", one)]
            last, bias = one, np.zeros_like(bias)
        precomputed = {}
        if table is not None and single_fields is not None:
            precomputed = _choose_precomputed(single_fields, table, len(layers[0][1]))
        self._native = NativeHead(
            num_fields,
            config.embedding_dim,
            tuple(layers),
            np.ascontiguousarray(last),
            float(t["bias"] + bias[0]),
            tuple(precomputed.get(position) for position in range(num_fields)),
            longest,
        )

    def logits(self, pooled: Pooled) -> Floats:
        """Return logits float32 [B]; see `Head`."""
        return np.frombuffer(self._native.logits(np.ascontiguousarray(pooled.fields), pooled.ids), np.float32)

    def side_activations(self, positions: Sequence[int], fields: Floats) -> SideActivations:
        """Return what some fields contribute; see `Head`."""
        n = len(fields)
        product, squares = self._native.side_activations(np.array(positions, np.int64), np.ascontiguousarray(fields), n)
        return SideActivations(np.frombuffer(product, np.float32).reshape(n, -1), np.frombuffer(squares, np.float32))

    def rank(self, context: SideActivations, candidates: SideActivations, places: NDArray[np.int64]) -> Floats:
        """Return logits float32 [n]; see `Head`."""
        return np.frombuffer(self._native.rank(*context, *candidates, places), np.float32)


def _choose_precomputed(
    single_fields: Mapping[int, tuple[int, int]], table: Floats, width: int
) -> dict[int, tuple[int, Floats]]:
    """Return first table row and rows [n, E+1] of the fields whose products with a layer of ``width`` are kept."""
    chosen, room = {}, PRECOMPUTED_BYTES
    for position, (start, end) in sorted(single_fields.items(), key=lambda item: item[1][1] - item[1][0]):
        room -= (end - start) * width * 4
        if room < 0:
            break
        chosen[position] = (start, np.ascontiguousarray(table[start:end]))
    return chosen
