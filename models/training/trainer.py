"""Epochs over the training rows: early stopping, the best epoch kept, checkpoints that a killed run goes on from."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
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
from models.training.evidence import Evidence
from models.training.train_step import TrainStep

CHECKPOINT_EVERY_S = 60.0


class Epoch(Strict):
    """One pass over the training rows; losses in nats per impression."""

    epoch: int
    train_log_loss: float
    validation_log_loss: float
    rows_per_s: float
    seconds: float


class Run(BaseModel):
    """How far a run has come: rows done in the current epoch, their summed loss and seconds; rows in all; the epochs before.

    ``first_order_log_loss`` is that of the validation part before the first epoch, where training begins at the first order.
    """

    epoch: int = 1
    done: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    rows_seen: int = 0
    history: list[Epoch] = []
    first_order_log_loss: float | None = None


@dataclass(frozen=True)
class Trained:
    """The best epoch's model on the CPU: table float32 [R, E+1] and head, and all epochs that were run.

    The best epoch is 0 where none was better than the first order alone, whose validation log loss is given where training
    began there. ``evidence`` is what it began with.
    """

    table: NDArray[np.float32]
    head: DeepFMHead
    history: tuple[Epoch, ...]
    best_epoch: int
    first_order_log_loss: float | None = None
    evidence: Evidence | None = None


# Called with (epoch, rows done, rows in the epoch, mean log loss so far in the epoch).
Progress = Callable[[int, int, int, float], None]


class Trainer:
    """Runs epochs of steps on the training rows, with checkpoints.

    With the same configuration and data the result is the same to the byte, also when the run was killed and goes on from its
    checkpoint. The checkpoint stays until the caller removes it: what comes after training may be killed too.

    Args:
        step: a model that has not been trained yet.
        train: shards of the training rows.
        progress: called after each batch.
        checkpoint: file to go on from, written at least every `CHECKPOINT_EVERY_S` seconds.

    Raises:
        TrainingError: the checkpoint is of another run.
    """

    def __init__(
        self, step: TrainStep, train: Sequence[Part], progress: Progress, checkpoint: Path | None = None
    ) -> None:
        self._step, self._train, self._progress, self._checkpoint = step, train, progress, checkpoint
        self._run = Run()
        self._best: dict[str, Tensor] = {}
        if checkpoint is not None and checkpoint.exists():
            self._restore(checkpoint)

    def fit(self, validation: Part) -> Trained:
        """Run epochs until the validation log loss stops falling; return the best epoch's model, or the first order alone.

        Raises:
            TrainingError: the loss is not finite.
        """
        step, config = self._step, self._step.config
        if step.begins_at_first_order and not self._best:
            self._keep_first_order(validation)
        while self._run.epoch <= config.epochs and not _has_stalled(self._run.history, config.patience):
            n = self._run_epoch()
            held_out, run = validation.load(), self._run
            probabilities = Calibration().of_log(step.logits(held_out.rows))
            epoch = Epoch(
                epoch=run.epoch,
                train_log_loss=run.loss_sum / n,
                validation_log_loss=log_loss(held_out.labels, probabilities),
                rows_per_s=n / max(run.seconds, 1e-9),
                seconds=run.seconds,
            )
            if epoch.validation_log_loss < _best_loss(run):
                self._keep()
            self._begin_epoch(run.epoch + 1, [*run.history, epoch])
        step.table.copy_(self._best["table"])
        step.head.load_state_dict({name: self._best[f"head.{name}"] for name in step.head.state_dict()})
        return self._trained()

    def fit_again(self, num_epochs: int) -> Trained:
        """Run so many epochs, with nothing to validate on; errors as in `fit`. None leave the first order alone."""
        if num_epochs == 0:
            self._step.leave_first_order()
        while self._run.epoch <= num_epochs:
            self._run_epoch()
            self._begin_epoch(self._run.epoch + 1, [])
        return self._trained()

    def _trained(self) -> Trained:
        history, first_order = self._run.history, self._run.first_order_log_loss
        best = min(history, key=lambda e: e.validation_log_loss).epoch if history else 0
        if history and first_order is not None and _best_loss(self._run) == first_order:
            best = 0
        head = self._step.head.cpu().eval()
        return Trained(self._step.table.numpy(force=True), head, tuple(history), best, first_order)

    def _keep(self) -> None:
        head = {f"head.{name}": tensor.clone() for name, tensor in self._step.head.state_dict().items()}
        self._best = {"table": self._step.table.clone(), **head}

    def _keep_first_order(self, validation: Part) -> None:
        held_out, step = validation.load(), self._step
        table = step.table.clone()
        step.leave_first_order()
        self._run.first_order_log_loss = log_loss(held_out.labels, Calibration().of_log(step.logits(held_out.rows)))
        self._keep()
        step.table.copy_(table)

    def _begin_epoch(self, epoch: int, history: list[Epoch]) -> None:
        self._run = Run(epoch=epoch, history=history, first_order_log_loss=self._run.first_order_log_loss)
        self._save()

    def _run_epoch(self) -> int:
        """Do what is left of the current epoch; return the rows of the whole."""
        step, run = self._step, self._run
        n = rows_in_epoch(self._train, step.batch_size)
        saved_at = started = time.monotonic()
        for batch, labels in batches(self._train, step.batch_size, step.config.seed, run.epoch, run.done):
            loss = step(batch, labels)
            if not np.isfinite(loss):
                raise TrainingError(f"the loss is not finite in epoch {run.epoch}: lower the learning rate")
            run.done += len(labels)
            run.loss_sum += loss * len(labels)
            self._progress(run.epoch, run.done, n, run.loss_sum / run.done)
            now = time.monotonic()
            if now - saved_at > CHECKPOINT_EVERY_S:
                run.seconds, started, saved_at = run.seconds + now - started, now, now
                self._save()
        run.seconds += time.monotonic() - started
        return n

    def _save(self) -> None:
        path = self._checkpoint
        if path is None:
            return
        self._run.rows_seen = self._step.rows_seen
        best = {f"best.{name}": tensor for name, tensor in self._best.items()}
        temporary = path.with_suffix(".tmp")
        save_file(self._step.state_dict() | best, temporary, {"run": self._run.model_dump_json()})
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.rename(path)

    def _restore(self, path: Path) -> None:
        with safe_open(path, "pt") as file:
            self._run = Run.model_validate_json(file.metadata()["run"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
        try:
            self._step.load_state_dict(tensors, self._run.rows_seen)
        except (KeyError, RuntimeError) as error:
            raise TrainingError(f"{path.name}: is not a checkpoint of this run, delete it to start anew") from error
        self._best = {name.removeprefix("best."): t for name, t in tensors.items() if name.startswith("best.")}


def _best_loss(run: Run) -> float:
    losses = [e.validation_log_loss for e in run.history]
    return min(losses if run.first_order_log_loss is None else [*losses, run.first_order_log_loss], default=np.inf)


def _has_stalled(history: list[Epoch], patience: int) -> bool:
    losses = [e.validation_log_loss for e in history]
    return len(losses) > patience and min(losses[-patience:]) >= min(losses[:-patience])
