"""deepctr-torch's DeepFM: ``compile("adam", "binary_crossentropy")`` (1e-3) and ``fit``, an epoch at a time.

Its loss is a batch's sum, not its mean, so one regularisation weight means b times less than FuxiCTR's of the same name;
the larger weights are tried for that. Numbers come as bins and, scaled, as dense features, as its examples have them.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping

import numpy as np
import torch
from deepctr_torch.inputs import DenseFeat, SparseFeat, VarLenSparseFeat
from deepctr_torch.models import DeepFM
from numpy.typing import NDArray

from benchmarks.accuracy.inputs import EMBEDDING_DIM, MAX_EPOCHS, BestEpoch, Inputs, Predictions, Setting, run

BASE: Setting = {"hidden": [256, 128], "batch_size": 256, "l2": 1e-5, "dropout": 0.0}  # its defaults
SETTINGS: list[Setting] = [
    BASE,
    {**BASE, "l2": 1e-2},
    {**BASE, "l2": 1e-1},
    {**BASE, "l2": 1e-2, "dropout": 0.2},
    {**BASE, "batch_size": 1024, "l2": 1e-1},
]


def columns_of(inputs: Inputs, part: str) -> Mapping[str, NDArray[np.float32]]:
    """Return a part by column, float32 as ``fit`` makes it; ids are far below 2^24."""
    examples, scaled = inputs.parts[part], inputs.scaled(part)
    columns = {name: examples.tokens[:, i].astype(np.float32) for i, name in enumerate(inputs.columns)}
    columns |= {name: ids.astype(np.float32) for name, ids in examples.sequences.items()}
    return columns | {f"{name} scaled": scaled[:, i] for i, name in enumerate(inputs.numeric)}


def fit(inputs: Inputs, setting: Setting, seed: int, epochs: int | None) -> Predictions:
    """Train once."""
    torch.manual_seed(seed)
    sizes = dict(zip(inputs.columns, inputs.sizes, strict=True))
    fields = [SparseFeat(name, size, EMBEDDING_DIM) for name, size in sizes.items()]
    for name, owner in inputs.shares.items():
        shared = SparseFeat(name, sizes[owner], EMBEDDING_DIM, embedding_name=owner)
        fields.append(VarLenSparseFeat(shared, inputs.parts["train"].sequences[name].shape[1], "mean"))
    fields += [DenseFeat(f"{name} scaled", 1) for name in inputs.numeric]
    model = DeepFM(
        fields,
        fields,
        dnn_hidden_units=tuple(setting["hidden"]),
        l2_reg_linear=setting["l2"],
        l2_reg_embedding=setting["l2"],
        dnn_dropout=setting["dropout"],
        seed=seed,
    )
    model.compile("adam", "binary_crossentropy")
    columns = {part: columns_of(inputs, part) for part in inputs.parts}
    best = BestEpoch(inputs.parts["validation"].labels, epochs)
    for _ in range(epochs or MAX_EPOCHS):
        with contextlib.redirect_stdout(sys.stderr):
            labels = inputs.parts["train"].labels
            model.fit(dict(columns["train"]), labels, batch_size=setting["batch_size"], epochs=1, verbose=0)
        if best.is_over(lambda part: np.asarray(model.predict(dict(columns[part]), 4096)).reshape(-1)):
            break
    assert best.predictions is not None
    return best.predictions


if __name__ == "__main__":
    torch.set_num_threads(1)
    run("deepctr", ["deepctr-torch", "torch", "numpy"], SETTINGS, fit)
