"""The head of a DeepFM for scoring: from pooled table rows to logits, without gradients.

Compiled (`models.network.compiled_head`) where the extension is built, which needs no torch, else in torch
(`models.network.torch_head`). Both compute what `models.network.deepfm.DeepFMHead` does in evaluation mode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Annotated, Generic, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from models.schema.feature_schema import Strict

Activation = Literal["relu", "prelu", "dice"]
Floats = NDArray[np.float32]
F = TypeVar("F", np.float32, np.float64)

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


def layer_names(config: DeepFMConfig, index: int) -> tuple[str, str, str]:
    """Return the names of a layer's linear part, batch normalisation (if there is one) and activation.

    They are modules of `DeepFMHead`, each hidden layer: linear, batch norm?, activation, dropout?. The output layer, whose
    index is the number of hidden layers, has a linear part only.
    """
    at = index * (2 + config.batch_norm + bool(config.dropout))
    return f"deep.{at}", f"deep.{at + 1}", f"deep.{at + 1 + config.batch_norm}"


def head_tensors(config: DeepFMConfig, num_fields: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return dtype and shape of every tensor in ``head.safetensors``, by name."""
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {"bias": ("float32", ())}
    width_in = num_fields * config.embedding_dim
    for i, width in enumerate((*config.hidden, 1)):
        linear, norm, activation = layer_names(config, i)
        shapes |= {f"{linear}.weight": ("float32", (width, width_in)), f"{linear}.bias": ("float32", (width,))}
        width_in = width
        if i == len(config.hidden):
            break
        vectors, norms = [], []
        if config.batch_norm:
            vectors, norms = [f"{norm}.weight", f"{norm}.bias"], [norm]
        if config.activation == "dice":
            vectors.append(f"{activation}.alpha")
            norms.append(f"{activation}.standardise")
        elif config.activation == "prelu":
            vectors.append(f"{activation}.weight")
        vectors += [f"{name}.{part}" for name in norms for part in ("running_mean", "running_var")]
        shapes |= dict.fromkeys(vectors, ("float32", (width,)))
        shapes |= {f"{name}.num_batches_tracked": ("int64", ()) for name in norms}
    return shapes


class HiddenLayer(NamedTuple, Generic[F]):
    """One hidden layer; batch normalisation is folded into weight and bias."""

    weight: NDArray[F]
    """[in, width]"""
    bias: NDArray[F]
    """[width]"""
    activation: Activation
    parameters: NDArray[F]
    """Of the activation: empty, prelu's slopes [width], or dice's alpha, mean and scale [3, width]."""


def hidden_layer(config: DeepFMConfig, tensors: Mapping[str, NDArray[F]], index: int) -> HiddenLayer[F]:
    """Return a hidden layer in evaluation mode, of the type of its tensors."""
    linear, norm, activation = layer_names(config, index)
    t = tensors
    weight, bias = t[f"{linear}.weight"].T, t[f"{linear}.bias"]
    if config.batch_norm:
        scale = t[f"{norm}.weight"] / np.sqrt(t[f"{norm}.running_var"] + bias.dtype.type(BATCH_NORM_EPS))
        weight, bias = weight * scale, (bias - t[f"{norm}.running_mean"]) * scale + t[f"{norm}.bias"]
    parameters = np.empty(0, bias.dtype)
    if config.activation == "prelu":
        parameters = t[f"{activation}.weight"]
    elif config.activation == "dice":  # alpha, mean, scale: see native/scoring/kernels.h
        scale = 1 / np.sqrt(t[f"{activation}.standardise.running_var"] + bias.dtype.type(DICE_EPS))
        parameters = np.stack([t[f"{activation}.alpha"], t[f"{activation}.standardise.running_mean"], scale])
    return HiddenLayer(
        np.ascontiguousarray(weight), np.ascontiguousarray(bias), config.activation, np.ascontiguousarray(parameters)
    )


class Pooled(NamedTuple):
    """B impressions as the head takes them."""

    fields: Floats
    """Each field's vector, the weighted sum of a bag's rows: float32 [B, F·(E+1)]."""
    ids: NDArray[np.int64]
    """The table row of each bag's first value, int64 [B·F]; all of them but in sequences."""


class SideActivations(NamedTuple):
    """What some of the fields contribute to n impressions; sums over disjoint sets of fields are those of their union."""

    product: Floats
    """The first layer's sums without its bias, Σ v_i and Σ w_i, float32 [n, H+E+1]; H is 1 without hidden layers."""
    squares: Floats
    """Σ_i ‖v_i‖², float32 [n]."""


class Head(Protocol):
    """logit = bias + first order + second order + deep part, of pooled table rows.

    NaN propagates within its impression.
    """

    def logits(self, pooled: Pooled) -> Floats:
        """Return logits float32 [B].

        Raises:
            ValueError: an id that its field does not have, where its products are precomputed.
        """
        ...

    def side_activations(self, positions: Sequence[int], fields: Floats) -> SideActivations:
        """Return what the fields at ``positions`` contribute, given their vectors float32 [n, len(positions)·(E+1)]."""
        ...

    def rank(self, context: SideActivations, candidates: SideActivations, places: NDArray[np.int64]) -> Floats:
        """Return logits float32 [n] of one context with the candidates at ``places`` int64 [n].

        Args:
            context: of one impression.
            candidates: of m impressions' other fields.
            places: from 0 to m − 1.

        Raises:
            ValueError: a place outside that range.
        """
        ...


def make_head(
    config: DeepFMConfig,
    num_fields: int,
    tensors: Mapping[str, NDArray[np.generic]],
    table: Floats | None = None,
    single_fields: Mapping[int, tuple[int, int]] | None = None,
) -> Head:
    """Return the compiled head, or the one in torch where the extension is not built.

    Args:
        config: sizes.
        num_fields: F.
        tensors: as `head_tensors` says.
        table: float32 [R, E+1], read for products with the first layer that are worth precomputing.
        single_fields: the first table row and the one after the last of each field that is no sequence, by its position.

    Raises:
        RuntimeError: neither the extension nor torch is there.
    """
    if find_spec("models._native") is not None:  # built with a C compiler
        from models.network.compiled_head import CompiledHead

        return CompiledHead(config, num_fields, tensors, table, single_fields)
    try:
        from models.network.torch_head import TorchHead
    except ImportError as error:
        raise RuntimeError(
            "scoring needs the compiled extension or torch: install a C compiler and ctrserve again, or the extra 'train'"
        ) from error
    return TorchHead(config, num_fields, tensors)
