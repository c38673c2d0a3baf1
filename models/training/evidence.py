"""What a log says before the epochs: the first order at its optimum, and which embeddings may be large."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.data.preparation import Prepared, Say
from models.data.shards import Part
from models.features.vocabulary import MISSING
from models.training.first_order import FirstOrder, fit_first_order, refit_first_order
from models.training.interactions import interacting_fields
from models.training.train_config import TrainConfig

INTERACTING, OTHER = 5.0, 0.2
"""Variances of the prior of embeddings of fields that interact and of the others, relative to ``embedding_variance``."""


@dataclass(frozen=True)
class Evidence:
    """Of a log.

    Args:
        first_order: its optimum.
        block_of: the block of each table row, int64 [R].
        interacts: whether a field with the embeddings of each block interacts with another, bool [V].
    """

    first_order: FirstOrder
    block_of: NDArray[np.int64]
    interacts: NDArray[np.bool_]

    def variances(self, config: TrainConfig) -> NDArray[np.float64]:
        """Return the prior's variance of an embedding's coordinate and of a weight, by block, float64 [V, 2]."""
        of_embeddings = config.embedding_variance * np.where(self.interacts, INTERACTING, OTHER)
        return np.stack((of_embeddings, self.first_order.variances), axis=1)


def find_evidence(prepared: Prepared, config: TrainConfig, say: Say) -> Evidence | None:
    """Fit the first order to the first shard and test the fields; ``None`` in a warm start, which has an artifact instead."""
    if prepared.inheritance is not None:
        return None
    say("fitting the first order")
    encoder, sample = prepared.encoder, prepared.train[0].load()
    starts = encoder.block_starts
    first_order = fit_first_order(
        sample.rows, sample.labels, starts, encoder.num_rows, config.weight_variance, config.seed
    )
    by_field = interacting_fields(
        sample.rows, sample.labels, first_order.logits(sample.rows), encoder.missing_rows - MISSING, config.seed
    )
    say(f"{int(by_field.sum())} of {len(by_field)} fields interact")
    names = list(encoder.start_of)
    owners = {
        encoder.vocabulary_of[block] for block, found in zip(encoder.schema.row_blocks, by_field, strict=True) if found
    }
    interacts = np.array([encoder.vocabulary_of[name] in owners for name in names])
    sizes = np.diff(np.append(starts, encoder.num_rows))
    return Evidence(first_order, np.repeat(np.arange(len(names)), sizes), interacts)


def with_more(evidence: Evidence, prepared: Prepared, train: Sequence[Part], config: TrainConfig) -> Evidence:
    """Return the evidence with the first order fitted to other shards; its variances and interactions stay."""
    sample, starts = train[0].load(), prepared.encoder.block_starts
    first_order = refit_first_order(sample.rows, sample.labels, starts, evidence.first_order, config.seed)
    return Evidence(first_order, evidence.block_of, evidence.interacts)
