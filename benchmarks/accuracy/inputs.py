"""The inputs of the peers, and how each is run: settings are chosen on the validation part, the test part is only predicted.

Needs numpy alone, since the environments of the peers import it.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

EMBEDDING_DIM = 16
MAX_EPOCHS = 10
PATIENCE = 2
"""Epochs without a better validation log loss before training stops; the best epoch predicts."""
PARTS = ("train", "validation", "test")
Setting = Mapping[str, Any]


@dataclass(frozen=True)
class Examples:
    """One part, oldest first.

    Args:
        labels: float32 [n] of 0 and 1.
        tokens: int32 [n, C], a column per categorical field and then one per numeric field, its bin. 1 is a missing
            value, 2 a token that is too rare in the training rows, known tokens follow; 0 is padding.
        numbers: float32 [n, K], the numeric fields as they are, NaN where missing.
        sequences: by field, int32 [n, L], oldest first, zeros after the last token.
    """

    labels: NDArray[np.float32]
    tokens: NDArray[np.int32]
    numbers: NDArray[np.float32]
    sequences: Mapping[str, NDArray[np.int32]]


@dataclass(frozen=True)
class Inputs:
    """Parts by name; the name and the number of ids of each token column; the field that each sequence shares its ids with."""

    parts: Mapping[str, Examples]
    columns: Sequence[str]
    sizes: Sequence[int]
    numeric: Sequence[str]
    shares: Mapping[str, str]

    def with_validation(self) -> Inputs:
        """Return the inputs with the validation rows appended to the training rows, for the refit."""
        a, b = self.parts["train"], self.parts["validation"]
        both = Examples(
            np.concatenate([a.labels, b.labels]),
            np.concatenate([a.tokens, b.tokens]),
            np.concatenate([a.numbers, b.numbers]),
            {field: np.concatenate([ids, b.sequences[field]]) for field, ids in a.sequences.items()},
        )
        return replace(self, parts={**self.parts, "train": both})

    def scaled(self, part: str) -> NDArray[np.float32]:
        """Return the numbers as sign(x)·ln(1 + |x|), standardised by the training rows, zero where missing; float32 [n, K]."""
        train, values = (_squeezed(self.parts[name].numbers) for name in ("train", part))
        scaled = (values - np.nanmean(train, axis=0)) / np.maximum(np.nanstd(train, axis=0), 1e-6)
        finite: NDArray[np.float32] = np.nan_to_num(scaled).astype(np.float32)
        return finite


def _squeezed(numbers: NDArray[np.float32]) -> NDArray[np.float64]:
    squeezed: NDArray[np.float64] = np.sign(numbers) * np.log1p(np.abs(numbers, dtype=np.float64))
    return squeezed


def save_inputs(folder: Path, inputs: Inputs) -> None:
    """Write the inputs for `load_inputs`."""
    for name, part in inputs.parts.items():
        arrays: dict[str, Any] = {f"sequence.{field}": ids for field, ids in part.sequences.items()}
        np.savez(folder / f"{name}.npz", labels=part.labels, tokens=part.tokens, numbers=part.numbers, **arrays)
    about = {name: getattr(inputs, name) for name in ("columns", "sizes", "numeric", "shares")}
    (folder / "inputs.json").write_text(json.dumps(about), encoding="utf-8")


def load_inputs(folder: Path) -> Inputs:
    """Read the files of `save_inputs`."""
    about = json.loads((folder / "inputs.json").read_text(encoding="utf-8"))
    parts = {}
    for name in PARTS:
        with np.load(folder / f"{name}.npz") as arrays:
            sequences = {f: arrays[f"sequence.{f}"] for f in about["shares"]}
            parts[name] = Examples(arrays["labels"], arrays["tokens"], arrays["numbers"], sequences)
    return Inputs(parts, **about)


def log_loss(labels: NDArray[Any], probabilities: NDArray[Any]) -> float:
    """Return the mean log loss, in nats per impression."""
    p = np.clip(probabilities.astype(np.float64), 1e-15, 1 - 1e-15)
    return float(-np.where(labels == 1, np.log(p), np.log1p(-p)).mean())


class BestEpoch:
    """Keeps the predictions of the epoch with the best validation log loss and decides when to stop.

    Args:
        labels: of the validation part.
        epochs: train for this number of epochs instead, and keep the predictions of the last.
    """

    def __init__(self, labels: NDArray[Any], epochs: int | None) -> None:
        self._labels = labels
        self._epochs = epochs
        self.losses: list[float] = []
        self.predictions: Predictions | None = None

    def is_over(self, predict: Callable[[str], NDArray[Any]]) -> bool:
        """Record an epoch; ``predict`` returns the current probabilities of a part."""
        validation = predict("validation")
        self.losses.append(log_loss(self._labels, validation))
        n, best = len(self.losses), 1 + int(np.argmin(self.losses))
        if n == (self._epochs or best):
            self.predictions = Predictions(validation, predict("test"), n)
        return n == self._epochs if self._epochs else n - best >= PATIENCE


@dataclass(frozen=True)
class Predictions:
    """Click probabilities of the two held-out parts, [n] each, after a number of epochs (or trees)."""

    validation: NDArray[Any]
    test: NDArray[Any]
    epochs: int


Fit = Callable[[Inputs, Setting, int, int | None], Predictions]
"""Trains on inputs with a setting and a seed, for a number of epochs or, with ``None``, until validation stops it."""


def run(library: str, packages: Sequence[str], settings: Sequence[Setting], fit: Fit) -> None:
    """Try every setting with the first seed, fit the best with all seeds, write ``.npy`` files and print one line of JSON.

    Each seed is fitted once more with the validation rows too, for as many epochs as were best without them.

    Args:
        library: name of the files.
        packages: whose versions are recorded.
        settings: to choose from, by validation log loss.
        fit: trains with one setting and one seed.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--inputs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--setting", type=json.loads, help="take this one and try none")
    options = parser.parse_args()
    if options.setting is not None:
        settings = [options.setting]
    inputs = load_inputs(options.inputs)
    labels, everything = inputs.parts["validation"].labels, inputs.with_validation()

    def trained(setting: Setting, seed: int) -> tuple[Predictions, dict[str, Any]]:
        started = time.perf_counter()
        predictions = fit(inputs, setting, seed, None)
        loss = log_loss(labels, predictions.validation)
        took = time.perf_counter() - started
        print(f"{library} seed {seed} {json.dumps(setting)}: validation {loss:.4f}, {took:.1f} s", file=sys.stderr)
        return predictions, {"setting": setting, "validation_log_loss": loss, "seconds": took}

    first = [trained(setting, options.seeds[0]) for setting in settings]
    best = min(range(len(first)), key=lambda i: float(first[i][1]["validation_log_loss"]))
    runs = [first[best], *(trained(settings[best], seed) for seed in options.seeds[1:])]
    for seed, (predictions, _) in zip(options.seeds, runs, strict=True):
        for part in ("validation", "test"):
            np.save(options.out / f"{library}-{seed}-{part}.npy", getattr(predictions, part).astype(np.float64))
        refitted = fit(everything, settings[best], seed, predictions.epochs)
        np.save(options.out / f"{library}-{seed}-refit.npy", refitted.test.astype(np.float64))
    answer = {
        "setting": settings[best],
        "tried": [about for _, about in first],
        "seconds": [about["seconds"] for _, about in runs],
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
    }
    print(json.dumps(answer))
