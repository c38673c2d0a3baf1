"""The dense part of a trained DeepFM as three or four matrix products: what training reports and serving uses.

Compiled for rectified layers where there is a compiler (`native/head.c`), otherwise in numpy, which is the same function.

`models.network.deepfm.DeepFMHead` is the same function in torch, for learning; the tests hold the two together. Serving needs
no torch: a worker starts in a second and is small.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from models.network.compiled_head import KnownField, choose_known, compile_head
from models.schema.feature_schema import Strict

Activation = Literal["relu", "prelu", "dice"]
Floats = NDArray[np.float32]

BATCH_NORM_EPS = 1e-5
DICE_EPS = 1e-8


class DeepFMConfig(Strict):
    """Sizes of the model; stored in the artifact, and all that is needed to rebuild it beside the weights."""

    embedding_dim: Annotated[int, Field(ge=1, le=1_024)] = 16
    """Numbers in an embedding."""
    hidden: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(max_length=16)] = (128, 64)
    """Widths of the deep part's hidden layers."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of hidden units dropped while learning."""
    activation: Activation = "relu"
    """Of the hidden layers; ``dice`` as in Zhou et al. 2018."""
    batch_norm: bool = False
    """Batch normalisation before each activation."""


class _Layer(NamedTuple):
    """Where a hidden layer's tensors stand in the file: indices of ``deep.<i>``, -1 where there is none."""

    linear: int
    norm: int
    activation: int
    width: int


def _hidden_layers(config: DeepFMConfig) -> tuple[list[_Layer], int]:
    # The places in DeepFMHead's Sequential: linear, batch norm?, activation, dropout?; and the last linear's.
    layers, at = [], 0
    for width in config.hidden:
        norm = at + 1 if config.batch_norm else -1
        activation = at + 1 + config.batch_norm
        layers.append(_Layer(at, norm, activation, width))
        at = activation + 1 + bool(config.dropout)
    return layers, at


def head_tensors(config: DeepFMConfig, num_fields: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return dtype and shape of every tensor in ``head.safetensors``, by name."""
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {"bias": ("float32", ())}
    layers, last = _hidden_layers(config)
    width_in = num_fields * config.embedding_dim
    for layer in layers:
        shapes[f"deep.{layer.linear}.weight"] = ("float32", (layer.width, width_in))
        shapes[f"deep.{layer.linear}.bias"] = ("float32", (layer.width,))
        norms = [f"deep.{layer.norm}"] if config.batch_norm else []
        for name in norms:
            shapes |= {f"{name}.{part}": ("float32", (layer.width,)) for part in ("weight", "bias")}
        if config.activation == "dice":
            norms.append(f"deep.{layer.activation}.standardise")
            shapes[f"deep.{layer.activation}.alpha"] = ("float32", (layer.width,))
        elif config.activation == "prelu":
            shapes[f"deep.{layer.activation}.weight"] = ("float32", (layer.width,))
        for name in norms:
            shapes |= {f"{name}.{part}": ("float32", (layer.width,)) for part in ("running_mean", "running_var")}
            shapes[f"{name}.num_batches_tracked"] = ("int64", ())
        width_in = layer.width
    shapes |= {f"deep.{last}.weight": ("float32", (1, width_in)), f"deep.{last}.bias": ("float32", (1,))}
    return shapes


class Pooled(NamedTuple):
    """B impressions as the head takes them."""

    fields: Floats
    """Each field's vector, the weighted sum of a bag's rows: float32 [B, F·(E+1)]."""
    ids: NDArray[np.int64]
    """The table row of each bag's first value, int64 [B·F]; of a field that is no sequence there is one."""

    @property
    def num_impressions(self) -> int:
        """B."""
        return len(self.fields)


class Head:
    """logit = bias + first order + second order + deep part, of pooled table rows.

    The first matrix is widened so that one product gives the first hidden layer, the sum of the embeddings S and the sum
    of the first-order weights; then  second order = ½ Σ_e (S_e² − Σ_i v_ie²)  (Rendle 2010, Lemma 3.1).

    Args:
        config: sizes.
        num_fields: F.
        tensors: as `head_tensors` says.
        single: the fields that are no sequences, by position; of those with the fewest rows, as many as fit
            `KNOWN_BYTES`, the compiled head keeps the products with the first layer instead of computing them each time.
    """

    def __init__(
        self,
        config: DeepFMConfig,
        num_fields: int,
        tensors: Mapping[str, NDArray[np.generic]],
        single: Mapping[int, KnownField] | None = None,
    ) -> None:
        t = {name: array.astype(np.float32, copy=False) for name, array in tensors.items()}
        F, E, D = num_fields, config.embedding_dim, config.embedding_dim + 1
        layers, last = _hidden_layers(config)
        products = [_product(t, layer) for layer in layers]
        products.append((t[f"deep.{last}.weight"].T, t[f"deep.{last}.bias"]))
        weight, bias = products[0]
        H = weight.shape[1]
        self._first = np.zeros((F, D, H + D), np.float32)
        self._first[:, :E, :H] = weight.reshape(F, E, H)
        self._first[:, :, H:] = np.eye(D, dtype=np.float32)
        self._first_bias = bias
        self._rest = [(np.ascontiguousarray(w), b) for w, b in products[1:]]
        self._activations = [_activation(config, t, layer) for layer in layers]
        self._bias = np.float32(t["bias"])
        self._num_hidden = H
        self.whole = HeadPart(self._first)
        self._compiled = None
        if config.activation == "relu" and config.hidden:
            self._compiled = compile_head(F, D, products, self._bias, choose_known(single or {}, H))

    def part(self, positions: Sequence[int]) -> HeadPart:
        """Return the first product of some fields only: sums over parts of all fields are that of the whole."""
        return HeadPart(self._first[list(positions)])

    def logits(self, pooled: Pooled) -> Floats:
        """Return logits float32 [B].

        Raises:
            ValueError: an id that its field does not have.
        """
        fields, ids = pooled
        if self._compiled is not None:
            return np.frombuffer(self._compiled.logits(np.ascontiguousarray(fields), ids), np.float32)
        return self.finish(*self.whole(fields))

    def rank(
        self, context: tuple[Floats, Floats], candidates: tuple[Floats, Floats], places: NDArray[np.int64]
    ) -> Floats:
        """Return logits float32 [n] of one context with the candidates at ``places`` int64 [n].

        Args:
            context: what `HeadPart` gives of the one's fields.
            candidates: what it gives of m others' fields, of which some are wanted.
            places: from 0 to m − 1.

        Raises:
            ValueError: a place that is none.
        """
        (c_product, c_squares), (product, squares) = context, candidates
        if self._compiled is not None:
            return np.frombuffer(self._compiled.rank(c_product, c_squares, product, squares, places), np.float32)
        return self.finish(product.take(places, axis=0) + c_product, squares.take(places) + c_squares)

    def finish(self, product: Floats, squares: Floats) -> Floats:
        """Return logits float32 [B] from what `HeadPart` gives, summed over all fields.

        Args:
            product: float32 [B, H+E+1].
            squares: float32 [B].
        """
        H = self._num_hidden
        embedding_sum = product[:, H:-1]
        second_order = np.einsum("be,be->b", embedding_sum, embedding_sum)
        second_order -= squares
        second_order *= np.float32(0.5)
        x = product[:, :H] + self._first_bias
        for activate, (weight, bias) in zip(self._activations, self._rest, strict=True):
            x = _times(activate(x), weight)
            x += bias
        logits: Floats = x[:, 0] + product[:, -1]
        logits += second_order
        logits += self._bias
        return logits


class HeadPart:
    """What some fields bring to the first layer; linear, so that parts may be computed apart and kept.

    Args:
        first: float32 [F', E+1, H+E+1], the fields' blocks of the widened first matrix.
    """

    def __init__(self, first: Floats) -> None:
        num_fields, self._dim, width = first.shape
        self._num_fields = num_fields
        self._first = first.reshape(num_fields * self._dim, width)

    def __call__(self, fields: Floats) -> tuple[Floats, Floats]:
        """Return product float32 [B, H+E+1] and sum of squares Σ v_ie² float32 [B] of rows float32 [B, F'·(E+1)]."""
        rows = fields.reshape(len(fields), self._num_fields, self._dim)[:, :, :-1]  # [B, F', E]
        return _times(fields, self._first), np.einsum("bfe,bfe->b", rows, rows)


def _times(x: Floats, weight: Floats) -> Floats:
    """Return x @ weight, float32 [B, width].

    Two or three rows are multiplied one by one: for a product of matrices OpenBLAS copies the weights first, which takes
    longer than two more readings of them (2 rows 165 → 87 µs, 3 rows 262 → 132, 4 rows 138 → 172).
    """
    if 1 < len(x) < 4:
        one_by_one: Floats = np.matmul(x[:, np.newaxis], weight)[:, 0]
        return one_by_one
    return x @ weight


def _product(t: Mapping[str, Floats], layer: _Layer) -> tuple[Floats, Floats]:
    """Return weight [in, width] and bias [width] of a hidden layer, its batch norm folded in."""
    weight, bias = t[f"deep.{layer.linear}.weight"].T, t[f"deep.{layer.linear}.bias"]
    if layer.norm < 0:
        return weight, bias
    name = f"deep.{layer.norm}"
    scale = t[f"{name}.weight"] / np.sqrt(t[f"{name}.running_var"] + np.float32(BATCH_NORM_EPS))
    return weight * scale, (bias - t[f"{name}.running_mean"]) * scale + t[f"{name}.bias"]


def _activation(config: DeepFMConfig, t: Mapping[str, Floats], layer: _Layer) -> Callable[[Floats], Floats]:
    name = f"deep.{layer.activation}"
    if config.activation == "relu":
        return lambda s: np.maximum(s, 0, out=s)
    if config.activation == "prelu":
        slope = t[f"{name}.weight"]

        def prelu(s: Floats) -> Floats:
            negative: Floats = np.minimum(s, 0)
            negative *= slope
            return np.maximum(s, 0, out=s) + negative

        return prelu
    alpha, mean = t[f"{name}.alpha"], t[f"{name}.standardise.running_mean"]
    deviation = np.sqrt(t[f"{name}.standardise.running_var"] + np.float32(DICE_EPS))

    def dice(s: Floats) -> Floats:
        z = (s - mean) / deviation
        e = np.exp(-np.abs(z))
        p: Floats = np.where(z >= 0, np.float32(1), e) / (1 + e)
        gated: Floats = p * s + (1 - p) * alpha * s
        return gated

    return dice
