"""Time FuxiCTR: the DeepFM of ``benchmarks.accuracy.run_fuxictr``, learnt by ``train_step``.

Adam at 1e-3 on dense gradients, embedding regularizer 1e-5, as the configurations in its documentation have it. Batches
are dictionaries made beforehand, so its data loader costs nothing here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from benchmarks.accuracy.inputs import Inputs
from benchmarks.accuracy.run_fuxictr import DeepFM, make_feature_map
from benchmarks.training.workload import answer, clock, parse, rows, sizes


def main() -> None:
    """Run once."""
    options = parse()
    torch.set_num_threads(options.threads)
    ids, numbers, labels = rows(options.rows, options.ids)
    columns, numeric = [f"C{i}" for i in range(ids.shape[1])], [f"I{i}" for i in range(numbers.shape[1])]
    inputs = Inputs({}, columns, sizes(options.ids).tolist(), numeric, {})
    setting = {"hidden": options.hidden, "embedding_regularizer": 1e-5, "net_dropout": 0.0}
    model = DeepFM(make_feature_map(inputs, "/nowhere"), setting, "/nowhere")
    model._max_gradient_norm = 10.0  # what its fit() takes by default
    model.train()
    order = np.random.default_rng(7).permutation(options.rows)

    def steps() -> Iterator[Callable[[], int]]:
        for at in range(0, options.rows - options.batch_size + 1, options.batch_size):
            some = order[at : at + options.batch_size]
            batch = {f"I{i} scaled": torch.from_numpy(numbers[some, i]) for i in range(numbers.shape[1])}
            batch |= {f"C{i}": torch.from_numpy(ids[some, i]) for i in range(ids.shape[1])}
            batch["label"] = torch.from_numpy(labels[some])

            def step(batch: dict[str, torch.Tensor] = batch) -> int:
                model.train_step(batch).item()
                return len(batch["label"])

            yield step

    what = "BaseModel.train_step on ready-made batches, Adam"
    answer("FuxiCTR", what, clock(steps(), options.seconds), ["fuxictr", "torch", "numpy", "polars"])


if __name__ == "__main__":
    main()
