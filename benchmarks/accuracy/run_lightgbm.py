"""LightGBM on the same inputs: tokens as native categories, numbers as they are; early stopping on validation.

Trees take no bags of tokens: a sequence comes as its length, whether the row's own token of the shared field is in it, and
the 16 strongest components of the training rows' bags (truncated SVD), about what an embedding of it would say.
"""

from __future__ import annotations

import lightgbm
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.decomposition import TruncatedSVD

from benchmarks.accuracy.inputs import EMBEDDING_DIM, Inputs, Predictions, Setting, run

MAX_TREES = 2_000
STOP_AFTER = 50
BASE: Setting = {"learning_rate": 0.05, "num_leaves": 31, "min_data_in_leaf": 100, "cat_smooth": 10, "cat_l2": 10}
SETTINGS: list[Setting] = [
    {"learning_rate": 0.1},  # its defaults
    BASE,
    {**BASE, "num_leaves": 63, "cat_smooth": 50, "cat_l2": 50},
    {**BASE, "cat_smooth": 100, "cat_l2": 100, "feature_fraction": 0.5},
    {**BASE, "num_leaves": 127, "cat_smooth": 100, "cat_l2": 100, "feature_fraction": 0.5, "bagging_fraction": 0.8},
]
made_of: dict[int, dict[str, NDArray[np.float32]]] = {}
"""Matrices by the identity of the inputs that they were made of."""


def bags(ids: NDArray[np.int32], size: int) -> csr_array:
    """Return mean-pooled one-hot rows, float32 [n, size]."""
    lengths = np.count_nonzero(ids, axis=1)
    weights = np.repeat(1 / np.maximum(lengths, 1), lengths).astype(np.float32)
    starts = np.concatenate(([0], np.cumsum(lengths)))
    return csr_array((weights, ids[ids > 0], starts), shape=(len(ids), size))


def make_matrices(inputs: Inputs) -> dict[str, NDArray[np.float32]]:
    """Return each part as a matrix: columns of categories first (bins left out, trees make their own), then numbers."""
    num_categories = len(inputs.columns) - len(inputs.numeric)
    made = {name: [part.tokens[:, :num_categories], part.numbers] for name, part in inputs.parts.items()}
    for field, owner in inputs.shares.items():
        at = list(inputs.columns).index(owner)
        svd = TruncatedSVD(EMBEDDING_DIM, random_state=7)
        svd.fit(bags(inputs.parts["train"].sequences[field], inputs.sizes[at]))
        for name, part in inputs.parts.items():
            ids = part.sequences[field]
            own = (ids == part.tokens[:, at : at + 1]).any(axis=1, keepdims=True)
            made[name] += [(ids > 1).sum(axis=1, keepdims=True), own, svd.transform(bags(ids, inputs.sizes[at]))]
    return {name: np.concatenate([c.astype(np.float32) for c in columns], axis=1) for name, columns in made.items()}


def fit(inputs: Inputs, setting: Setting, seed: int, epochs: int | None) -> Predictions:
    """Train once; ``epochs`` are trees here."""
    if id(inputs) not in made_of:
        made_of[id(inputs)] = make_matrices(inputs)
    matrices = made_of[id(inputs)]
    parameters = {"objective": "binary", "verbosity": -1, "num_threads": 1, "deterministic": True, "seed": seed}
    if "bagging_fraction" in setting:
        parameters["bagging_freq"] = 1
    categories = list(range(len(inputs.columns) - len(inputs.numeric)))
    train, validation = (
        lightgbm.Dataset(matrices[name], inputs.parts[name].labels, categorical_feature=categories, free_raw_data=False)
        for name in ("train", "validation")
    )
    model = lightgbm.train(
        {**parameters, **setting},
        train,
        epochs or MAX_TREES,
        valid_sets=[validation],
        callbacks=[] if epochs else [lightgbm.early_stopping(STOP_AFTER, verbose=False)],
    )
    validation_p, test_p = (np.asarray(model.predict(matrices[name])) for name in ("validation", "test"))
    return Predictions(validation_p, test_p, epochs or model.best_iteration)


if __name__ == "__main__":
    run("lightgbm", ["lightgbm", "numpy", "scikit-learn"], SETTINGS, fit)
