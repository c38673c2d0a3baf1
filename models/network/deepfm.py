"""DeepFM (Guo et al. 2017): first order + second order + deep part over one shared embedding.

Split in two: a huge table, of which a row holds a feature's embedding and its first-order weight, and a small dense
head. Training composes them; serving may fetch the rows from elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.features.encoder import EncodedBatch
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


def pool(rows: Tensor, index: Tensor, weights: Tensor, offsets: Tensor, num_fields: int) -> Tensor:
    """Return the weighted sum of each bag's rows, float32 [B, F, E+1]; differentiable in ``rows``.

    Args:
        rows: float32 [U, E+1].
        index: int64 [N], which of the rows each entry of the bags is.
        weights: float32 [N].
        offsets: int64 [B·F + 1], as in `EncodedBatch`.
        num_fields: F.
    """
    if len(index) == len(offsets) - 1:  # every bag holds one row of weight one
        return rows.index_select(0, index).view(-1, num_fields, rows.shape[1])
    bags = functional.embedding_bag(
        index, rows, offsets, mode="sum", per_sample_weights=weights, include_last_offset=True
    )
    return bags.view(-1, num_fields, rows.shape[1])


def first_order(weights: Tensor) -> Tensor:
    """Return Σ_i w_i, float32 [B], of the fields' weights float32 [B, F]."""
    return weights.sum(dim=1)


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
    square_of_sum = embeddings.sum(dim=1).square()  # [B, E]
    sum_of_square = embeddings.square().sum(dim=1)  # [B, E]
    return 0.5 * (square_of_sum - sum_of_square).sum(dim=1)


class DeepFMHead(nn.Module):
    """The dense part: from pooled table rows to a logit."""

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

    def forward(self, fields: Tensor) -> Tensor:
        """Return the logits float32 [B] of pooled rows float32 [B, F, E+1]: embedding and first-order weight."""
        embeddings, weights = fields[..., :-1], fields[..., -1]
        logit: Tensor = (
            self.bias + first_order(weights) + second_order(embeddings) + self.deep(embeddings.flatten(1)).squeeze(1)
        )
        return logit

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


def batch_tensors(batch: EncodedBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Return the batch's ids, weights and offsets as tensors that share its memory."""
    ids = torch.from_numpy(batch.ids)
    if batch.is_single:  # whose weights and offsets are shared and read-only, which torch does not know
        return ids, torch.ones(len(ids)), torch.arange(len(ids) + 1)
    return ids, torch.from_numpy(batch.weights), torch.from_numpy(batch.offsets)
