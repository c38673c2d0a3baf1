"""The settings of a training run; ``python -m models.train`` has an option for each."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from models.network.head import DeepFMConfig
from models.schema.feature_schema import Strict

STEPS_PER_EPOCH = 256
"""About so many steps make an epoch of a log that is not large; with half of them some seeds end far behind the others."""


class TrainConfig(Strict):
    """How a DeepFM is trained. The defaults need no tuning: the regularisation scales with the data."""

    model: DeepFMConfig = DeepFMConfig()
    learning_rate: Annotated[float, Field(gt=0)] = 0.03
    """Step size of the table's rows (row-wise Adagrad) at the start; falls linearly to zero over all epochs."""
    dense_learning_rate: Annotated[float, Field(gt=0)] = 0.003
    """Step size of the head (Adam) at the start; falls likewise."""
    batch_size: Annotated[int, Field(ge=0)] = 0
    """Impressions in a step; 0 takes the power of two nearest to rows/256, between 64 and 4096."""
    epochs: Annotated[int, Field(ge=1)] = 3
    """Most passes over the training rows."""
    patience: Annotated[int, Field(ge=1)] = 2
    """Epochs without a better validation log loss before training stops; the best epoch is kept. With 1 it would stop too early:
    steps become smaller until the last."""
    weight_variance: Annotated[float, Field(gt=0)] = 0.1
    """Variance of the Gaussian prior of a first-order weight (the C of a logistic regression), from which the search for each
    field's own begins. In a warm start, of all fields."""
    embedding_variance: Annotated[float, Field(gt=0)] = 0.002
    """Variance of the Gaussian prior of an embedding's coordinate: five times this for fields that interact with others, a fifth
    for those that do not. In a warm start, of all fields."""
    dense_l2: Annotated[float, Field(ge=0)] = 0.0
    """L2 penalty of the head's weights, in units of mean log loss."""
    field_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of fields whose embedding is dropped from an impression while training."""
    refit: bool = True
    """Train again, for as many epochs as were best, on training and validation rows together, and serve that model. Validation
    figures and calibration are of the model that had not seen those rows."""
    id_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of training values replaced by the out-of-vocabulary row."""
    init_std: Annotated[float, Field(gt=0)] = 0.045
    """Standard deviation of the embeddings at the start; by default that of their prior."""
    seed: Annotated[int, Field(ge=0)] = 7
    """Of weights, batches and dropout; on one machine and device the same seed gives the same bytes."""
    shard_rows: Annotated[int, Field(ge=1)] = 1_000_000
    """Rows shuffled together; a log with more is kept on disk below the output directory, and read shard by shard."""
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    """Where to train; auto takes a GPU where torch finds one. The compiled operators are for the CPU."""
    threads: Annotated[int, Field(ge=1)] = 1
    """Threads of torch. Steps are so small that a second one costs more than it brings; compiled operators use one."""


def batch_size_of(config: TrainConfig, num_rows: int) -> int:
    """Return the impressions in a step of a run on so many rows."""
    nearest = 2 ** round(np.log2(max(num_rows / STEPS_PER_EPOCH, 1)))
    return config.batch_size or int(np.clip(nearest, 64, 4_096))
