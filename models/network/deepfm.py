"""DeepFM (Guo et al. 2017): first order + second order + deep part over one shared embedding.

Split in two: a huge table, of which a row holds a feature's embedding and its first-order weight, and a small dense head.
Training composes them; serving may fetch the rows from elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.network import operators
from models.network.head import BATCH_NORM_EPS, DICE_EPS, Activation, DeepFMConfig, Floats, Head, make_head


class Dice(nn.Module):
    """f(s) = p(s)·s + (1 − p(s))·α·s with p the sigmoid of the standardised s (Zhou et al. 2018, eq. 3–4)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.standardise = nn.BatchNorm1d(width, affine=False, eps=DICE_EPS)
        self.alpha = nn.Parameter(torch.zeros(width))

    def forward(self, s: Tensor) -> Tensor:
        """Apply it to float32 [B, width]."""
        p = torch.sigmoid(self.standardise(s))
        return p * s + (1 - p) * self.alpha * s


ACTIVATIONS: Mapping[Activation, Callable[[int], nn.Module]] = {
    "relu": lambda _: nn.ReLU(),
    "prelu": nn.PReLU,
    "dice": Dice,
}


@dataclass(frozen=True)
class Bags:
    """Which of U table rows each field of B impressions holds.

    Args:
        index: int32 or int64 [N], rows of the bags one after the other: impression by impression, field by field.
        num_fields: F.
        lengths: int64 [B·F], rows in each bag, at least one; ``None`` where each bag holds one.
        weights: float32 [N], what each of a bag's rows is multiplied by; ``None`` without lengths.
        by_field: each row belongs to one field, and rows stand in the order of the fields. The compiled operator needs this.
    """

    index: Tensor
    num_fields: int
    lengths: Tensor | None = None
    weights: Tensor | None = None
    by_field: bool = False


def pool(rows: Tensor, bags: Bags) -> Tensor:
    """Return each bag's weighted sum, float32 [B, F, E+1], of rows float32 [U, E+1]."""
    index = bags.index.long()  # by which torch adds gradients faster
    if bags.lengths is None:
        pooled = rows.index_select(0, index)
    else:
        offsets = functional.pad(bags.lengths.cumsum(0), (1, 0))  # [B·F + 1]
        pooled = functional.embedding_bag(
            index, rows, offsets, mode="sum", per_sample_weights=bags.weights, include_last_offset=True
        )
    return pooled.view(-1, bags.num_fields, rows.shape[1])


def second_order(embeddings: Tensor) -> Tensor:
    """Sum the inner products of all pairs of different fields, in O(F·E) instead of O(F²·E).

    Uses  Σ_{i<j} ⟨v_i, v_j⟩ = ½ Σ_e [(Σ_i v_ie)² − Σ_i v_ie²]   (Rendle 2010, Lemma 3.1).

    Args:
        embeddings: float32 [B, F, E].

    Returns:
        float32 [B].

    >>> second_order(torch.tensor([[[1.0, 0.0], [2.0, 3.0], [0.0, 1.0]]]))
    tensor([5.])
    """
    return second_order_of_sums(embeddings.sum(dim=1), embeddings.square().sum(dim=(1, 2)))


def second_order_of_sums(sums: Tensor, squares: Tensor) -> Tensor:
    """Return the second order, float32 [B], from Σ_i v_i, float32 [B, E], and Σ_i ‖v_i‖², float32 [B]."""
    return 0.5 * (sums.square().sum(dim=1) - squares)


def fm_and_first_layer(fields: Tensor, mask: Tensor | None, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return first plus second order, float32 [B], and the deep part's first layer without its bias, float32 [B, H].

    The reference of `models.network.operators.fm_and_first_layer`, on any device.

    Args:
        fields: float32 [B, F, E+1], pooled rows.
        mask: float32 [B, F], what each field's embedding is multiplied by.
        weight: float32 [H, F·E].
    """
    embeddings, weights = torch.split(fields, [fields.shape[2] - 1, 1], dim=2)  # [B, F, E], [B, F, 1]
    if mask is not None:
        embeddings = embeddings * mask.unsqueeze(2)
    return weights.sum(dim=(1, 2)) + second_order(embeddings), embeddings.flatten(1) @ weight.T


class DeepFMHead(nn.Module):
    """The dense part: from table rows to a logit."""

    def __init__(self, config: DeepFMConfig, num_fields: int) -> None:
        super().__init__()
        self.config = config
        self.num_fields = num_fields
        self.bias = nn.Parameter(torch.zeros(()))
        self.deep = nn.Sequential(*_deep_layers(config, num_fields * config.embedding_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw hidden layers as He et al. 2015, the last as Glorot & Bengio 2010; biases start at zero."""
        *hidden, last = [layer for layer in self.deep if isinstance(layer, nn.Linear)]
        for layer in hidden:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.xavier_normal_(last.weight)
        for layer in (*hidden, last):
            nn.init.zeros_(layer.bias)

    def forward(self, rows: Tensor, bags: Bags | None = None, mask: Tensor | None = None) -> Tensor:
        """Return the logits float32 [B]: bias + first and second order + deep part.

        Args:
            rows: float32 [U, E+1], embeddings and first-order weights; without ``bags`` pooled ones, float32 [B, F, E+1].
            bags: which of the rows each field of B impressions holds.
            mask: float32 [B, F], what each field's embedding is multiplied by; its first-order weight is not.
        """
        fm, first_layer = self._fm_and_first_layer(rows, bags, mask)  # [B], [B, H]
        return self.bias + fm + self._deep(first_layer)

    def _fm_and_first_layer(self, rows: Tensor, bags: Bags | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        first = self.deep[0]
        assert isinstance(first, nn.Linear)
        if (
            bags is not None
            and bags.by_field
            and bags.lengths is None
            and operators.trains_compiled(rows, first.weight)
        ):
            index = bags.index.view(-1, bags.num_fields)
            mask = torch.ones(index.shape) if mask is None else mask
            return operators.fm_and_first_layer(rows, first.weight, index, mask)
        return fm_and_first_layer(rows if bags is None else pool(rows, bags), mask, first.weight)

    def _deep(self, first_layer: Tensor) -> Tensor:
        first, *rest = [layer for layer in self.deep if isinstance(layer, nn.Linear)]
        is_rectified = all(isinstance(layer, nn.Linear | nn.ReLU) for layer in self.deep)
        if rest and is_rectified and operators.trains_compiled(first_layer, first.weight):
            layers = [tensor for layer in rest for tensor in (layer.weight, layer.bias)]
            return operators.rectified_layers(first_layer, first.bias, *layers)
        logits: Tensor = self.deep[1:](first_layer + first.bias).squeeze(1)
        return logits

    def frozen(self, table: Floats | None = None, single_fields: Mapping[int, tuple[int, int]] | None = None) -> Head:
        """Return the same function in evaluation mode, for scoring, with the weights as they are now.

        Args:
            table: as `make_head` takes it; with the same table and fields as in serving it has the same bits as there.
            single_fields: likewise.
        """
        tensors = {key: value.numpy(force=True) for key, value in self.state_dict().items()}
        return make_head(self.config, self.num_fields, tensors, table, single_fields)


def _deep_layers(config: DeepFMConfig, width: int) -> Sequence[nn.Module]:
    layers: list[nn.Module] = []
    for hidden in config.hidden:
        layers.append(nn.Linear(width, hidden))
        if config.batch_norm:
            layers.append(nn.BatchNorm1d(hidden, eps=BATCH_NORM_EPS))
        layers.append(ACTIVATIONS[config.activation](hidden))
        if config.dropout:
            layers.append(nn.Dropout(config.dropout))
        width = hidden
    return [*layers, nn.Linear(width, 1)]
