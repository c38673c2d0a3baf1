"""Trains the benchmarks' model on a random log with known logits, as a served model is trained.

The work of the head depends on how many of its hidden units are zero: half with random weights, four fifths after training. The
true logits are those of a factorisation machine with an effect for each token.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from models.data.shards import Examples, Part, batches
from models.features.encoder import FeatureEncoder
from models.features.packed_rows import PackedRows
from models.network.deepfm import DeepFMHead
from models.network.head import DeepFMConfig
from models.training.fit_and_refit import settle_unseen_rows
from models.training.train_config import TrainConfig
from models.training.train_step import TrainStep

WEIGHT_STD, FACTOR_STD, NUM_FACTORS = 0.15, 0.12, 8
CLICK_LOGIT = -1.5
CHUNK = 10_000


def train(
    config: DeepFMConfig, encoder: FeatureEncoder, ids: NDArray[np.int64], seed: int
) -> tuple[NDArray[np.float32], DeepFMHead]:
    """Return a table float32 [R, E+1] and a head, trained on impressions with the defaults of ``models.train``.

    Args:
        config: sizes.
        encoder: of all fields.
        ids: table rows of n impressions, int64 [n, F].
        seed: of the true logits, the clicks and the training.
    """
    torch.set_num_threads(1)  # several on one core, as when this process is pinned, would wait for each other
    rng = np.random.default_rng(seed)
    logits = true_logits(ids, encoder.num_rows, rng)
    labels = (rng.random(len(ids)) < expit(logits)).astype(np.float32)
    packed = PackedRows(ids.astype(np.int32).reshape(-1), None, ("mean",) * ids.shape[1])
    counts = np.bincount(packed.ids, minlength=encoder.num_rows)
    starts = np.array([field.start for field in encoder.fields])
    step = TrainStep(TrainConfig(model=config, seed=seed, device="cpu"), counts, starts + 1, labels)
    part = Part.of(Examples(packed, labels))
    for epoch in range(1, step.config.epochs + 1):
        for batch, clicks in batches([part], step.batch_size, seed, epoch):
            step(batch, clicks)
    return settle_unseen_rows(step.table.numpy(), counts, starts), step.head


def true_logits(ids: NDArray[np.int64], num_rows: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the logits float64 [n] of a random factorisation machine (Rendle 2010), -1.5 on average."""
    weights = rng.standard_normal(num_rows, dtype=np.float32) * WEIGHT_STD
    factors = rng.standard_normal((num_rows, NUM_FACTORS), dtype=np.float32) * FACTOR_STD
    logits = np.empty(len(ids))
    for start in range(0, len(ids), CHUNK):
        part = ids[start : start + CHUNK]
        found = factors[part]
        pairs = np.square(found.sum(axis=1)).sum(axis=1) - np.square(found).sum(axis=(1, 2))
        logits[start : start + CHUNK] = weights[part].sum(axis=1) + pairs / 2
    logits += CLICK_LOGIT - logits.mean()
    return logits
