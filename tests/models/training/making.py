"""A small log to train on, whose truth is known."""

import numpy as np

from models.data.shards import Examples
from models.features.field_encoder import Column
from models.features.packed_rows import PackedRows
from models.network.calibration import sigmoid
from models.network.head import DeepFMConfig
from models.schema.feature_schema import Pooling
from models.training.train_config import TrainConfig
from models.training.train_step import TrainStep

R = 60
OOV_ROWS = np.array([1, 21, 41])
CONFIG = TrainConfig(
    model=DeepFMConfig(embedding_dim=4, hidden=(8,), dropout=0.2), batch_size=128, epochs=4, id_dropout=0.05
)


def make_examples(n: int, seed: int, *, single: bool = False, pooling: Pooling = "sqrtn") -> Examples:
    """Return impressions of two categorical fields and a sequence, whose clicks follow known first-order weights."""
    truth = np.random.default_rng(0).normal(size=R)
    rng = np.random.default_rng(seed)
    a, b = rng.integers(2, 20, n), rng.integers(22, 40, n)
    lengths = rng.integers(1, 2 if single else 4, n)
    sequence = Column(rng.integers(42, 60, int(lengths.sum())), lengths, pooling)
    labels = (rng.random(n) < sigmoid(truth[a] + truth[b])).astype(np.float32)
    return Examples(PackedRows.of([Column(a), Column(b), sequence]), labels)


def make_step(config: TrainConfig, examples: Examples) -> TrainStep:
    return TrainStep(config, np.bincount(examples.rows.ids, minlength=R), OOV_ROWS, examples.labels)
