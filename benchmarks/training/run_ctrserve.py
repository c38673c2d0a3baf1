"""Time ctrserve's own training loop: batches taken from packed rows, forward, backward, both optimizers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from benchmarks.training.workload import EMBEDDING_DIM, answer, clock, parse, rows, sizes
from models.data.shards import Examples, Part, batches
from models.features.packed_rows import PackedRows
from models.network.head import DeepFMConfig
from models.schema.feature_schema import Pooling
from models.training.train_config import TrainConfig
from models.training.train_step import TrainStep

NUM_BINS = 20


def main() -> None:
    """Run once."""
    options = parse()
    torch.set_num_threads(options.threads)
    ids, numbers, labels = rows(options.rows, options.ids)
    blocks = np.concatenate((sizes(options.ids) + 2, np.full(numbers.shape[1], NUM_BINS + 2)))
    starts = np.cumsum(blocks) - blocks
    local = np.concatenate((ids, (numbers * NUM_BINS).astype(np.int64)), axis=1) + 2
    pooling: Pooling = "mean"
    packed = PackedRows((local + starts).astype(np.int32).reshape(-1), None, (pooling,) * len(blocks))
    counts = np.bincount(packed.ids, minlength=int(blocks.sum()))
    model = DeepFMConfig(embedding_dim=EMBEDDING_DIM, hidden=tuple(options.hidden))
    config = TrainConfig(model=model, batch_size=options.batch_size, threads=options.threads, device="cpu")
    train_step = TrainStep(config, counts, starts + 1, labels)
    part = Part.of(Examples(packed, labels))

    def steps() -> Iterator[Callable[[], int]]:
        feed = batches([part], options.batch_size, config.seed, 1)

        def step() -> int:
            batch, clicks = next(feed)
            train_step(batch, clicks)
            return len(clicks)

        yield from [step] * (options.rows // options.batch_size)

    what = "batching and TrainStep, default settings"
    answer("ctrserve", what, clock(steps(), options.seconds), ["torch", "numpy"])


if __name__ == "__main__":
    main()
