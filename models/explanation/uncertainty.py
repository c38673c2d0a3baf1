"""How sure a logit is: the Laplace approximation of the table's rows, from how often training saw each.

Around the trained model, a logit changes with a row v by J·δ, where J is its gradient. The posterior of the row is about normal
with precision Λ + c·G (MacKay 1992): Λ is that of training's Gaussian prior, c how many impressions hold the row, and G what one of
them tells on average, the mean of p(1 − p)·J Jᵀ over the impressions of the row's block. A row that training never saw, and the value of
an unseen token, have c = 0 and keep the variance of the prior. The variance of a logit is the sum of Jᵀ(Λ + c·G)⁻¹J over the rows that
it reads.

Two constants bring this near the truth on logs with known probabilities (docs/experiments.md, "How sure a probability is"): values
differ less than the prior has it (`PRIOR_SHARE`), and an impression counts for less than one, since the model itself is not the
truth (`TEMPERING`, a tempered posterior as in Grünwald 2012).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from models.features.encoder import EncodedBatch, FeatureEncoder
from models.features.packed_rows import PackedRows
from models.network.calibration import sigmoid
from models.network.head import DeepFMConfig
from models.network.integrated_gradients import Array, DeepPart
from models.network.predictor import Predictor, pool

MAX_ROWS = 20_000
"""Impressions from which G is computed."""
CHUNK = 1_000
PRIOR_SHARE = 0.85
"""Of the prior's variance."""
TEMPERING = 0.2
"""What an impression counts for, in the precision of a row with the whole variance of the prior."""


class Gradients:
    """The derivatives of a model's logits by the vectors of its fields.

    Args:
        config: sizes.
        num_fields: F.
        tensors: as `models.network.head.head_tensors` says.
    """

    def __init__(self, config: DeepFMConfig, num_fields: int, tensors: Mapping[str, NDArray[np.generic]]) -> None:
        self._deep = DeepPart(config, tensors)
        self._shape = num_fields, config.embedding_dim + 1

    def of(self, fields: NDArray[np.float32]) -> Array:
        """Return the derivatives float64 [B, F, E+1] at impressions' vectors float32 [B, F·(E+1)]."""
        x = fields.astype(np.float64).reshape(-1, *self._shape)[..., :-1]  # [B, F, E]
        by_deep = self._deep.gradients(x.reshape(len(x), -1)).reshape(x.shape)
        by_fm = x.sum(axis=1, keepdims=True) - x
        return np.concatenate([by_deep + by_fm, np.ones((*x.shape[:2], 1))], axis=2)


class Occurrences:
    """The rows that impressions read: whose they are, and what they are multiplied by.

    Args:
        encoder: of the artifact.
        batch: B impressions.
    """

    def __init__(self, encoder: FeatureEncoder, batch: EncodedBatch) -> None:
        F = batch.num_fields
        starts = np.array([field.start for field in encoder.fields])
        bags = np.repeat(np.arange(len(batch) * F), np.diff(batch.offsets))
        self.row, self.weight = batch.ids, batch.weights.astype(np.float64)
        self.impression, self.field = bags // F, bags % F
        self.block = np.searchsorted(encoder.block_starts, starts)[self.field]
        self.is_oov = self.row == encoder.oov_rows[self.field]


class Uncertainty:
    """The variance of logits.

    Args:
        encoder: of the artifact.
        counts: int64 [R], how often training saw each row.
        evidence: of `fit_uncertainty`.
    """

    def __init__(
        self, encoder: FeatureEncoder, counts: NDArray[np.int64], evidence: Mapping[str, NDArray[np.generic]]
    ) -> None:
        self._encoder = encoder
        self._counts = counts
        self._basis, self._information = (evidence[name].astype(np.float64) for name in ("basis", "information"))

    def variances(self, batch: EncodedBatch, gradients: Array) -> Array:
        """Return the variance of each logit, float64 [B].

        Args:
            batch: B impressions.
            gradients: of `Gradients`, float64 [B, F, E+1].
        """
        found = Occurrences(self._encoder, batch)
        counts = np.where(found.is_oov, 0, self._counts[found.row]) * TEMPERING
        by_row = np.zeros(len(found.row))
        for block in range(len(self._basis)):
            at = np.flatnonzero(found.block == block)
            j = gradients[found.impression[at], found.field[at]] * found.weight[at, np.newaxis]
            along = np.square(j @ self._basis[block].T)
            by_row[at] = (along / (1 + counts[at, np.newaxis] * self._information[block])).sum(axis=1)
        return PRIOR_SHARE * np.bincount(found.impression, by_row, len(batch)).astype(np.float64)


def fit_uncertainty(
    encoder: FeatureEncoder,
    predictor: Predictor,
    gradients: Gradients,
    table: NDArray[np.float32],
    rows: PackedRows,
    prior_variance: Array,
) -> dict[str, NDArray[np.generic]]:
    """Return what an artifact keeps of the Laplace approximation, float32, for V blocks of the table.

    ``basis`` [V, E+1, E+1] holds for each block a matrix T with T Λ Tᵀ = I and T G Tᵀ diagonal; ``information`` [V, E+1] holds
    that diagonal.

    Args:
        encoder: of the artifact.
        predictor: of the model.
        gradients: of the model.
        table: float32 [R, E+1].
        rows: of training; `MAX_ROWS` of them, evenly spaced, are used.
        prior_variance: of each number of a block's rows, float64 [V, E+1].
    """
    V, width = len(encoder.block_starts), table.shape[1]
    told, seen = np.zeros((V, width, width)), np.zeros(V)
    sample = np.linspace(0, len(rows) - 1, min(len(rows), MAX_ROWS)).astype(np.int64)
    for chunk in rows.select(sample, rows.row_starts()).chunks(CHUNK):
        batch = chunk.unpack()
        j = gradients.of(pool(batch, table.take(batch.ids, axis=0)).fields)
        p = sigmoid(predictor.score_table(batch, table).astype(np.float64))
        found = Occurrences(encoder, batch)
        scale = np.sqrt(p * (1 - p))[found.impression] * found.weight
        for block in range(V):
            at = np.flatnonzero(found.block == block)
            scaled = j[found.impression[at], found.field[at]] * scale[at, np.newaxis]
            told[block] += scaled.T @ scaled
            seen[block] += len(at)
    spread = np.sqrt(prior_variance)  # Λ = 1 / spread²
    relative = told / np.maximum(seen, 1)[:, np.newaxis, np.newaxis] * spread[:, :, np.newaxis] * spread[:, np.newaxis]
    information, vectors = np.linalg.eigh(relative)
    basis = np.swapaxes(vectors, 1, 2) * spread[:, np.newaxis]
    return {"basis": basis.astype(np.float32), "information": np.maximum(information, 0).astype(np.float32)}
