"""Time FuxiCTR: its DeepFM is put together from its public layers as its model zoo does, learnt by ``train_step``.

Adam at 1e-3 on dense gradients, embedding regularizer 1e-5, as the configurations in its documentation have it. Batches
are dictionaries made beforehand, so its data loader costs nothing here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers import FactorizationMachine, FeatureEmbedding, MLP_Block
from fuxictr.pytorch.models import BaseModel

from benchmarks.training.workload import EMBEDDING_DIM, answer, clock, parse, rows, sizes


class DeepFM(BaseModel):
    """FM over one embedding, plus a deep part."""

    def __init__(self, feature_map: FeatureMap, hidden: list[int]) -> None:
        super().__init__(feature_map, embedding_regularizer=1e-5, verbose=0, model_root="/nowhere", metrics=["AUC"])
        self.embedding_layer = FeatureEmbedding(feature_map, EMBEDDING_DIM)
        self.fm = FactorizationMachine(feature_map)
        self.mlp = MLP_Block(feature_map.sum_emb_out_dim(), hidden, output_dim=1)
        self.compile("adam", "binary_crossentropy", 1e-3)
        self.reset_parameters()
        self._max_gradient_norm = 10.0  # what its fit() takes by default

    def forward(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        x = self.get_inputs(inputs)
        embeddings = self.embedding_layer(x)
        logit = self.fm(x, embeddings) + self.mlp(embeddings.flatten(start_dim=1))
        return {"y_pred": self.output_activation(logit)}


def make_feature_map(num_ids: int, num_numeric: int) -> FeatureMap:
    """Describe the workload in FuxiCTR's terms."""
    feature_map = FeatureMap("workload", "/nowhere")
    features: list[tuple[str, dict[str, Any]]] = [
        (f"I{i}", {"type": "numeric", "source": ""}) for i in range(num_numeric)
    ]
    features += [
        (f"C{i}", {"type": "categorical", "source": "", "vocab_size": int(size), "padding_idx": 0})
        for i, size in enumerate(sizes(num_ids))
    ]
    feature_map.features = OrderedDict(features)
    feature_map.labels = ["label"]
    feature_map.default_emb_dim = EMBEDDING_DIM
    feature_map.num_fields = feature_map.get_num_fields()
    feature_map.set_column_index()
    return feature_map


def main() -> None:
    """Run once."""
    options = parse()
    torch.set_num_threads(options.threads)
    ids, numbers, labels = rows(options.rows, options.ids)
    model = DeepFM(make_feature_map(options.ids, numbers.shape[1]), options.hidden)
    model.train()
    order = np.random.default_rng(7).permutation(options.rows)

    def steps() -> Iterator[Callable[[], int]]:
        for at in range(0, options.rows - options.batch_size + 1, options.batch_size):
            some = order[at : at + options.batch_size]
            batch = {f"I{i}": torch.from_numpy(numbers[some, i]) for i in range(numbers.shape[1])}
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
