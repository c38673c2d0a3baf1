"""The learning loop: batches, loss, updates, checkpoints. Knows nothing of files of the log, reports or printing."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from models.calibration import Calibration
from models.deepfm import DeepFMConfig, DeepFMHead, batch_tensors, pool
from models.encoding import EncodedBatch
from models.errors import TrainingError
from models.metrics import log_loss
from models.optimizers import RULES, DenseOptimizer, DistinctRows, OptimizerName, RowOptimizer
from models.predictor import Predictor
from models.schema import Strict

CHECKPOINT_EVERY_S = 60.0


class LearnerConfig(Strict):
    """How a DeepFM is learnt. The defaults need no tuning: the regularisation scales with the data."""

    model: DeepFMConfig = DeepFMConfig()
    optimizer: OptimizerName = "adagrad"
    learning_rate: Annotated[float, Field(gt=0)] = 0.03
    """Step size of the table's rows."""
    dense_learning_rate: Annotated[float, Field(gt=0)] = 0.003
    """Step size of the head."""
    batch_size: Annotated[int, Field(ge=1)] = 512
    epochs: Annotated[int, Field(ge=1)] = 5
    """Most passes over the training rows."""
    patience: Annotated[int, Field(ge=1)] = 1
    """Epochs without a better validation log loss before training stops; the best epoch is kept."""
    weight_variance: Annotated[float, Field(gt=0)] = 0.3
    """Variance of the Gaussian prior of a first-order weight: the C of a logistic regression."""
    embedding_variance: Annotated[float, Field(gt=0)] = 0.003
    """Variance of the Gaussian prior of an embedding's coordinate."""
    dense_l2: Annotated[float, Field(ge=0)] = 0.0
    """L2 penalty of the head's weights, in units of mean log loss."""
    id_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of training values replaced by the out-of-vocabulary row."""
    init_std: Annotated[float, Field(gt=0)] = 0.01
    """Standard deviation of the embeddings at the start."""
    seed: int = 7


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training rows gave; losses in nats per impression."""

    epoch: int
    train_log_loss: float
    validation_log_loss: float
    rows_per_s: float
    seconds: float


@dataclass(frozen=True)
class Examples:
    """Impressions with their labels, float32 [B] of 0 and 1."""

    batch: EncodedBatch
    labels: NDArray[np.float32]


@dataclass(frozen=True)
class Learnt:
    """The best epoch's model: table float32 [R, E+1] and head, with the history that led there."""

    table: NDArray[np.float32]
    head: DeepFMHead
    history: tuple[Epoch, ...]
    best_epoch: int


# Called with (epoch, rows done, rows in the epoch, mean log loss so far in the epoch).
Progress = Callable[[int, int, int, float], None]


class Learner:
    """A model being learnt.

    Args:
        config: how.
        counts: int64 [R], how often each table row occurs in the training rows.
        oov_rows: int64 [F], each field's out-of-vocabulary row.
        num_rows: training rows n.
    """

    def __init__(self, config: LearnerConfig, counts: NDArray[np.int64], oov_rows: NDArray[np.int64], num_rows: int) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        width = config.model.embedding_dim + 1
        self.table = torch.randn(len(counts), width) * config.init_std
        self.table[:, -1] = 0.0
        self.head = DeepFMHead(config.model, len(oov_rows))
        self.oov_rows = torch.from_numpy(oov_rows)
        rule = RULES[config.optimizer]
        self.rows = RowOptimizer(rule, self.table)
        self.dense = DenseOptimizer(rule, list(self.head.parameters()))
        self.decay = lazy_decay(config, counts, num_rows)
        self.distinct = DistinctRows(len(counts))
        self.step = 0

    def learn(self, batch: EncodedBatch, labels: Tensor) -> float:
        """Do one step on b impressions; return their mean log loss before it."""
        self.step += 1
        ids, weights, offsets = batch_tensors(batch)
        if self.config.id_dropout:
            ids = self._drop_ids(ids, offsets)
        touched, index = self.distinct.find(ids)
        values = self.table[touched].requires_grad_()  # [U, E+1]
        logits = self.head(pool(values, index, weights, offsets, batch.num_fields))
        loss = functional.binary_cross_entropy_with_logits(logits, labels)
        self.head.zero_grad(set_to_none=True)
        loss.backward()
        assert values.grad is not None
        gradient = values.grad + values.detach() * self.decay[touched].unsqueeze(1) * self._prior_scale()
        self.rows.step(touched, gradient, self.step, self.config.learning_rate)
        if self.config.dense_l2:
            for parameter in self.head.parameters():
                if parameter.grad is not None and parameter.dim() > 1:
                    parameter.grad += self.config.dense_l2 * parameter.detach()
        self.dense.step(self.step, self.config.dense_learning_rate)
        return loss.item()

    def _drop_ids(self, ids: Tensor, offsets: Tensor) -> Tensor:
        num_fields = len(self.oov_rows)
        fields = torch.arange(len(offsets) - 1).remainder(num_fields).repeat_interleave(offsets.diff())
        return torch.where(torch.rand(len(ids)) < self.config.id_dropout, self.oov_rows[fields], ids)

    def _prior_scale(self) -> Tensor:
        scale = torch.full((self.table.shape[1],), 1.0 / self.config.embedding_variance)
        scale[-1] = 1.0 / self.config.weight_variance
        return scale

    def logits(self, batch: EncodedBatch) -> NDArray[np.float32]:
        """Return the logits float32 [B] of the model as it stands."""
        logits = Predictor(self.head, Calibration()).score_table(batch, self.table.numpy())
        self.head.train()
        return logits

    def tensors(self) -> dict[str, Tensor]:
        """Return all that changes while learning, by name; writing into them sets the state."""
        named = {"table": self.table, "generator": torch.get_rng_state()}
        named |= {f"head.{key}": value for key, value in self.head.state_dict().items()}
        named |= {f"rows.{i}": value for i, value in enumerate(self.rows.state)}
        return named | {f"dense.{i}.{j}": s for i, state in enumerate(self.dense.state) for j, s in enumerate(state)}


def lazy_decay(config: LearnerConfig, counts: NDArray[np.int64], num_rows: int) -> Tensor:
    """Return 1/(n·p_i) per table row, float32 [R]: what a touched row must pay to be decayed, on average, in every step.

    A Gaussian prior of variance σ² adds v²/(2σ²n) to the mean log loss. Rows are only visited by batches that hold them,
    with probability p_i = 1 − (1 − c_i/n)^b for a row that c_i of n impressions hold; dividing by p_i makes the lazy
    penalty equal to the full one in expectation, as a logistic regression has it.
    """
    share = np.minimum(counts / num_rows, 1.0)
    touched = -np.expm1(config.batch_size * np.log1p(-np.minimum(share, 1 - 1e-12)))
    return torch.from_numpy((1.0 / (num_rows * np.maximum(touched, 1.0 / num_rows))).astype(np.float32))


def learn(learner: Learner, train: Examples, validation: Examples, progress: Progress, checkpoint: Path | None = None) -> Learnt:
    """Run epochs until the validation log loss stops falling; keep the best epoch.

    With the same configuration and data the result is the same to the byte, also when the run was killed and goes on
    from its ``checkpoint``, which is removed at the end.

    Raises:
        TrainingError: the loss is not finite, or the checkpoint belongs to another run.
    """
    config, n = learner.config, len(train.labels)
    history: list[Epoch] = []
    best: dict[str, Tensor] = {}
    epoch, done, loss_sum, spent_s = 1, 0, 0.0, 0.0
    if checkpoint is not None and checkpoint.exists():
        state, best = _restore(checkpoint, learner)
        history = [Epoch(**e) for e in state["history"]]
        epoch, done, loss_sum, spent_s, learner.step = (state[k] for k in ("epoch", "done", "loss_sum", "spent_s", "step"))
    saved_at = started = time.monotonic()

    def save() -> None:
        state = {"history": [e.__dict__ for e in history], "epoch": epoch, "done": done, "loss_sum": loss_sum, "spent_s": spent_s}
        if checkpoint is not None:
            _save(checkpoint, learner, {**state, "step": learner.step}, best)

    while epoch <= config.epochs and not _stalled(history, config.patience):
        order = np.random.default_rng([config.seed, epoch]).permutation(n)
        while done < n:
            rows = order[done : done + config.batch_size]
            loss = learner.learn(train.batch.take(rows), torch.from_numpy(train.labels[rows]))
            if not np.isfinite(loss):
                raise TrainingError(f"the loss is not finite in epoch {epoch}: lower the learning rate")
            done += len(rows)
            loss_sum += loss * len(rows)
            progress(epoch, done, n, loss_sum / done)
            now = time.monotonic()
            if now - saved_at > CHECKPOINT_EVERY_S:
                spent_s, started, saved_at = spent_s + now - started, now, now
                save()
        spent_s += time.monotonic() - started
        z = learner.logits(validation.batch)
        loss = log_loss(validation.labels, Calibration().of_log(z))
        history.append(Epoch(epoch, loss_sum / n, loss, n / max(spent_s, 1e-9), spent_s))
        if history[-1] is min(history, key=lambda e: e.validation_log_loss):
            best = {key: value.clone() for key, value in learner.tensors().items() if key == "table" or key.startswith("head.")}
        epoch, done, loss_sum, spent_s = epoch + 1, 0, 0.0, 0.0
        save()
        saved_at = started = time.monotonic()
    learner.head.load_state_dict({key.removeprefix("head."): value for key, value in best.items() if key.startswith("head.")})
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    best_epoch = min(history, key=lambda e: e.validation_log_loss).epoch
    return Learnt(best["table"].numpy(), learner.head.eval(), tuple(history), best_epoch)


def _stalled(history: list[Epoch], patience: int) -> bool:
    losses = [e.validation_log_loss for e in history]
    return len(losses) > patience and min(losses[-patience:]) >= min(losses[:-patience])


def _save(path: Path, learner: Learner, state: dict[str, object], best: dict[str, Tensor]) -> None:
    temporary = path.with_suffix(".tmp")
    tensors = learner.tensors() | {f"best.{key}": value for key, value in best.items()}
    save_file({k: v.clone() if k == "generator" else v for k, v in tensors.items()}, temporary, {"state": json.dumps(state)})
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.rename(path)


def _restore(path: Path, learner: Learner) -> tuple[dict[str, object], dict[str, Tensor]]:
    with safe_open(path, "pt") as file:
        state = json.loads(file.metadata()["state"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # not a dict
    for key, target in learner.tensors().items():
        if key not in tensors or tensors[key].shape != target.shape:
            raise TrainingError(f"{path.name}: is not a checkpoint of this run, delete it to start anew")
        if key == "generator":
            torch.set_rng_state(tensors[key])
        else:
            target.copy_(tensors[key])
    return state, {key.removeprefix("best."): t for key, t in tensors.items() if key.startswith("best.")}
