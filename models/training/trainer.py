"""Epochs over the training rows: early stopping, the best epoch kept, checkpoints that a killed run goes on from."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from models.data.shards import Part, batches, rows_in_epoch
from models.errors import TrainingError
from models.evaluation.metrics import log_loss
from models.network.calibration import Calibration
from models.network.deepfm import DeepFMHead
from models.schema.feature_schema import Strict
from models.training.train_step import Learner

CHECKPOINT_EVERY_S = 60.0


class Epoch(Strict):
    """What one pass over the training rows gave; losses in nats per impression."""

    epoch: int
    train_log_loss: float
    validation_log_loss: float
    rows_per_s: float
    seconds: float


class Run(BaseModel):
    """Where a run stands: rows done in the current epoch, their summed loss and seconds, and the epochs before it."""

    epoch: int = 1
    done: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    step: int = 0
    history: list[Epoch] = []


@dataclass(frozen=True)
class Learnt:
    """The best epoch's model: table float32 [R, E+1] and head, with the history that led there."""

    table: NDArray[np.float32]
    head: DeepFMHead
    history: tuple[Epoch, ...]
    best_epoch: int


# Called with (epoch, rows done, rows in the epoch, mean log loss so far in the epoch).
Progress = Callable[[int, int, int, float], None]


def learn(
    learner: Learner, train: Sequence[Part], validation: Part, progress: Progress, checkpoint: Path | None = None
) -> Learnt:
    """Run epochs until the validation log loss stops falling; keep the best epoch.

    With the same configuration and data the result is the same to the byte, also when the run was killed and goes on
    from its ``checkpoint``. That stays until the caller removes it: what comes after learning may be killed too.

    Raises:
        TrainingError: the loss is not finite, or the checkpoint belongs to another run.
    """
    config = learner.config
    run, best = _begin(learner, checkpoint)
    while run.epoch <= config.epochs and not _stalled(run.history, config.patience):
        n = _learn_epoch(learner, train, run, best, progress, checkpoint)
        held_out = validation.load()
        probabilities = Calibration().of_log(learner.logits(held_out.rows))
        epoch = Epoch(
            epoch=run.epoch,
            train_log_loss=run.loss_sum / n,
            validation_log_loss=log_loss(held_out.labels, probabilities),
            rows_per_s=n / max(run.seconds, 1e-9),
            seconds=run.seconds,
        )
        if all(epoch.validation_log_loss < e.validation_log_loss for e in run.history):
            best = {
                key: value.clone()
                for key, value in learner.tensors().items()
                if key == "table" or key.startswith("head.")
            }
        run = Run(epoch=run.epoch + 1, step=learner.step, history=[*run.history, epoch])
        if checkpoint is not None:
            _save(checkpoint, learner, run, best)
    learner.head.load_state_dict(
        {key.removeprefix("head."): value for key, value in best.items() if key.startswith("head.")}
    )
    best_epoch = min(run.history, key=lambda e: e.validation_log_loss).epoch
    return Learnt(best["table"].numpy(), learner.head.eval(), tuple(run.history), best_epoch)


def relearn(
    learner: Learner, train: Sequence[Part], num_epochs: int, progress: Progress, checkpoint: Path | None = None
) -> None:
    """Run as many epochs as `learn` found best, on rows of which none is left to stop by; else as `learn`."""
    run, nothing = _begin(learner, checkpoint)
    while run.epoch <= num_epochs:
        _learn_epoch(learner, train, run, nothing, progress, checkpoint)
        run = Run(epoch=run.epoch + 1, step=learner.step)
        if checkpoint is not None:
            _save(checkpoint, learner, run, nothing)
    learner.head.eval()


def _begin(learner: Learner, checkpoint: Path | None) -> tuple[Run, dict[str, Tensor]]:
    if checkpoint is not None and checkpoint.exists():
        return _restore(checkpoint, learner)
    return Run(), {}


def _learn_epoch(
    learner: Learner,
    train: Sequence[Part],
    run: Run,
    best: dict[str, Tensor],
    progress: Progress,
    checkpoint: Path | None,
) -> int:
    """Learn what is left of the epoch that ``run`` stands in; note there what it costs, return the rows of the whole."""
    size = learner.batch_size
    n = rows_in_epoch(train, size)
    saved_at = started = time.monotonic()
    for batch, labels in batches(train, size, learner.config.seed, run.epoch, run.done):
        loss = learner.learn(batch, torch.from_numpy(labels))
        if not np.isfinite(loss):
            raise TrainingError(f"the loss is not finite in epoch {run.epoch}: lower the learning rate")
        run.done += len(labels)
        run.loss_sum += loss * len(labels)
        progress(run.epoch, run.done, n, run.loss_sum / run.done)
        now = time.monotonic()
        if checkpoint is not None and now - saved_at > CHECKPOINT_EVERY_S:
            run.seconds, started, saved_at = run.seconds + now - started, now, now
            _save(checkpoint, learner, run, best)
    run.seconds += time.monotonic() - started
    return n


def _stalled(history: list[Epoch], patience: int) -> bool:
    losses = [e.validation_log_loss for e in history]
    return len(losses) > patience and min(losses[-patience:]) >= min(losses[:-patience])


def _save(path: Path, learner: Learner, run: Run, best: dict[str, Tensor]) -> None:
    run.step = learner.step
    temporary = path.with_suffix(".tmp")
    save_file(
        learner.tensors() | {f"best.{key}": value for key, value in best.items()},
        temporary,
        {"run": run.model_dump_json()},
    )
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.rename(path)


def _restore(path: Path, learner: Learner) -> tuple[Run, dict[str, Tensor]]:
    with safe_open(path, "pt") as file:
        run = Run.model_validate_json(file.metadata()["run"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # not a dict
    for key, target in learner.tensors().items():
        if key not in tensors or tensors[key].shape != target.shape:
            raise TrainingError(f"{path.name}: is not a checkpoint of this run, delete it to start anew")
        if key == "generator":
            torch.set_rng_state(tensors[key])
        else:
            target.copy_(tensors[key])
    learner.step = run.step
    return run, {key.removeprefix("best."): t for key, t in tensors.items() if key.startswith("best.")}
