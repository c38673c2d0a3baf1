"""FuxiCTR's DeepFM, put together from its public layers as its model zoo does, fitted by its own ``BaseModel.fit``.

As in its documentation's and BARS' configurations: Adam at 1e-3 (a tenth of it after an epoch that is no better),
embeddings of 16, early stopping with patience 2, best epoch kept. Numbers come as bins and, scaled, as numeric features.
"""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers import FactorizationMachine, FeatureEmbedding, MLP_Block
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.torch_utils import seed_everything

from benchmarks.accuracy.inputs import EMBEDDING_DIM, MAX_EPOCHS, PATIENCE, Inputs, Predictions, Setting, run

BASE: Setting = {"hidden": [128, 64], "batch_size": 1024, "embedding_regularizer": 1e-5, "net_dropout": 0.0}
SETTINGS: list[Setting] = [
    {**BASE, "batch_size": 4096},
    BASE,
    {**BASE, "batch_size": 256},
    {**BASE, "embedding_regularizer": 1e-3},
    {**BASE, "embedding_regularizer": 3e-3},
    {**BASE, "embedding_regularizer": 1e-2},
    {**BASE, "embedding_regularizer": 1e-3, "batch_size": 256},
    {**BASE, "embedding_regularizer": 1e-3, "hidden": [400, 400, 400], "net_dropout": 0.2},
]


class DeepFM(BaseModel):
    """FM over one embedding, plus a deep part."""

    def __init__(self, feature_map: FeatureMap, setting: Setting, folder: str) -> None:
        super().__init__(
            feature_map,
            monitor="logloss",
            monitor_mode="min",
            early_stop_patience=PATIENCE,
            embedding_regularizer=setting["embedding_regularizer"],
            verbose=0,
            model_root=folder,
            metrics=["AUC", "logloss"],
        )
        self.embedding_layer = FeatureEmbedding(feature_map, EMBEDDING_DIM)
        self.fm = FactorizationMachine(feature_map)
        width = feature_map.sum_emb_out_dim()
        self.mlp = MLP_Block(width, hidden_units=setting["hidden"], output_dim=1, dropout_rates=setting["net_dropout"])
        self.compile("adam", "binary_crossentropy", 1e-3)
        self.reset_parameters()
        # The first-order weights of fields that share embeddings are tables of their own, which reset_parameters leaves
        # at N(0, 1): summed over 50 tokens they drown everything else for epochs. Begun as all other weights are.
        for name, embedding in self.fm.lr_layer.embedding_layer.embedding_layer.embedding_layers.items():
            if "share_embedding" in feature_map.features[name]:
                torch.nn.init.normal_(embedding.weight.data[1:], std=1e-4)

    def forward(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        x = self.get_inputs(inputs)
        embeddings = self.embedding_layer(x)
        logit = self.fm(x, embeddings) + self.mlp(embeddings.flatten(start_dim=1))
        return {"y_pred": self.output_activation(logit)}


class Batches:
    """A part as FuxiCTR's data loaders give it: dictionaries of tensors, shuffled anew in each pass or in order."""

    def __init__(self, inputs: Inputs, part: str, batch_size: int, *, is_shuffled: bool) -> None:
        examples = inputs.parts[part]
        self.arrays = {name: torch.from_numpy(examples.tokens[:, i].copy()) for i, name in enumerate(inputs.columns)}
        self.arrays |= {name: torch.from_numpy(ids) for name, ids in examples.sequences.items()}
        scaled = inputs.scaled(part)
        self.arrays |= {f"{name} scaled": torch.from_numpy(scaled[:, i]) for i, name in enumerate(inputs.numeric)}
        self.arrays["label"] = torch.from_numpy(examples.labels)
        self.batch_size, self.is_shuffled = batch_size, is_shuffled

    def __len__(self) -> int:
        return -(-len(self.arrays["label"]) // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        n = len(self.arrays["label"])
        order = torch.randperm(n) if self.is_shuffled else torch.arange(n)
        for at in range(0, n, self.batch_size):
            rows = order[at : at + self.batch_size]
            yield {name: values[rows] for name, values in self.arrays.items()}


def make_feature_map(inputs: Inputs, folder: str) -> FeatureMap:
    """Describe the inputs in FuxiCTR's terms; sequences are averaged and share their field's embeddings."""
    feature_map = FeatureMap("inputs", folder)
    features: dict[str, dict[str, Any]] = {
        name: {"type": "categorical", "source": "", "vocab_size": size, "padding_idx": 0}
        for name, size in zip(inputs.columns, inputs.sizes, strict=True)
    }
    features |= {
        name: {
            **features[owner],
            "type": "sequence",
            "share_embedding": owner,
            "max_len": inputs.parts["train"].sequences[name].shape[1],
            "feature_encoder": "layers.MaskedAveragePooling()",
        }
        for name, owner in inputs.shares.items()
    }
    features |= {f"{name} scaled": {"type": "numeric", "source": ""} for name in inputs.numeric}
    feature_map.features = OrderedDict(features)
    feature_map.labels = ["label"]
    feature_map.default_emb_dim = EMBEDDING_DIM
    feature_map.num_fields = feature_map.get_num_fields()
    feature_map.set_column_index()
    return feature_map


def fit(inputs: Inputs, setting: Setting, seed: int, epochs: int | None) -> Predictions:
    """Train once.

    With a number of epochs the validation rows are among the training rows and their loss falls to the last one.
    """
    seed_everything(seed)
    with tempfile.TemporaryDirectory() as folder:
        model = DeepFM(make_feature_map(inputs, folder), setting, folder)
        Path(model.model_dir).mkdir(exist_ok=True)
        train = Batches(inputs, "train", setting["batch_size"], is_shuffled=True)
        held_out = {p: Batches(inputs, p, 4096, is_shuffled=False) for p in ("validation", "test")}
        model.fit(train, epochs=epochs or MAX_EPOCHS, validation_data=held_out["validation"])
        best = model._epoch_index + 1 - model._stopping_steps
        validation, test = (np.asarray(model.predict(held_out[p])) for p in ("validation", "test"))
        return Predictions(validation, test, best)


if __name__ == "__main__":
    torch.set_num_threads(1)
    run("fuxictr", ["fuxictr", "torch", "numpy", "polars"], SETTINGS, fit)
