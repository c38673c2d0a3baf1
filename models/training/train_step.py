"""A model being learnt: one step on a batch, and what it costs. Knows nothing of epochs, files or printing."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import csr_array
from torch import Tensor
from torch.nn import functional

from models.data.warm_start import Inheritance, InheritedPrior
from models.features.encoder import EncodedBatch
from models.features.packed_rows import PackedRows
from models.features.vocabulary import OOV
from models.network.calibration import Calibration
from models.network.compiled_step import FEW_ROWS, DistinctStep
from models.network.deepfm import DeepFMHead, batch_tensors, first_order, pool
from models.network.head import DeepFMConfig
from models.network.hidden_layers import layers_of
from models.network.predictor import Predictor, score_rows
from models.schema.feature_schema import Strict
from models.training.optimizers import RULES, DenseOptimizer, DenseRule, DistinctRows, RowOptimizer, RowRule

WARM_STEP, WARM_HEAD_STEP = 0.5, 0.01
"""Step sizes of the rows and of the head in a run that goes on from an artifact, in those of a first run. The head, which all
values share, has seen enough: it nearly stays."""
WARM_SQUARES = 40.0
"""Squares of gradients that a known row's adagrad begins with, in units of p(1 − p)/b²: about what a first run leaves there, which
is not in the artifact. Rows that are new begin with none."""

STEPS_IN_EPOCH = 256
"""About so many steps make an epoch of a log that is not large; with half of them some seeds end far behind the others."""


class LearnerConfig(Strict):
    """How a DeepFM is learnt. The defaults need no tuning: the regularisation scales with the data."""

    model: DeepFMConfig = DeepFMConfig()
    optimizer: RowRule = "rowwise_adagrad"
    """Update rule of the table's rows."""
    dense_optimizer: DenseRule = "adam"
    """Update rule of the head."""
    learning_rate: Annotated[float, Field(gt=0)] = 0.03
    """Step size of the table's rows at the start; falls linearly to zero over all epochs."""
    dense_learning_rate: Annotated[float, Field(gt=0)] = 0.003
    """Step size of the head at the start; falls likewise."""
    batch_size: Annotated[int, Field(ge=0)] = 0
    """Impressions in a step; 0 takes the power of two nearest to rows/256, between 64 and 4096."""
    epochs: Annotated[int, Field(ge=1)] = 3
    """Most passes over the training rows."""
    patience: Annotated[int, Field(ge=1)] = 2
    """Epochs without a better validation log loss before training stops; the best epoch is kept. After one a chance remains:
    steps become smaller until the last."""
    weight_variance: Annotated[float, Field(gt=0)] = 0.3
    """Variance of the Gaussian prior of a first-order weight: the C of a logistic regression."""
    embedding_variance: Annotated[float, Field(gt=0)] = 0.002
    """Variance of the Gaussian prior of an embedding's coordinate."""
    dense_l2: Annotated[float, Field(ge=0)] = 0.0
    """L2 penalty of the head's weights, in units of mean log loss."""
    field_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of fields whose embedding an impression does without while learning."""
    refit: bool = True
    """Learn again, as many epochs as were best, from training and validation rows together, and serve that model. Validation
    figures and calibration are of the model that had not seen those rows."""
    id_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of training values replaced by the out-of-vocabulary row."""
    init_std: Annotated[float, Field(gt=0)] = 0.045
    """Standard deviation of the embeddings at the start; by default that of their prior."""
    seed: int = 7
    """Of weights, batches and dropout; the same seed gives the same bytes."""
    shard_rows: Annotated[int, Field(ge=1)] = 1_000_000
    """Rows shuffled together; a log with more is kept on disk below the output directory, and read shard by shard."""
    threads: Annotated[int, Field(ge=1)] = 1
    """Threads of torch; steps are so small that a second one costs more than it brings, see docs/decisions.md."""


class Learner:
    """A model being learnt.

    Args:
        config: how.
        counts: int64 [R], how often each table row occurs in the training rows.
        oov_rows: int64 [F], each field's out-of-vocabulary row.
        labels: float32 [n], of the training rows.
        inheritance: weights to go on from.
    """

    def __init__(
        self,
        config: LearnerConfig,
        counts: NDArray[np.int64],
        oov_rows: NDArray[np.int64],
        labels: NDArray[np.float32],
        inheritance: Inheritance | None = None,
    ) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.batch_size = batch_size_of(config, len(labels))
        self.num_steps = max(1, len(labels) // self.batch_size) * config.epochs
        width = config.model.embedding_dim + 1
        self.table = torch.randn(len(counts), width) * config.init_std
        self.table[:, -1] = 0.0
        self.head = DeepFMHead(config.model, len(oov_rows))
        base_rate = float(np.clip(labels.mean(), 1e-6, 1 - 1e-6))
        self.head.bias.data.fill_(np.log(base_rate / (1 - base_rate)))
        self.oov_rows = torch.from_numpy(oov_rows)
        self.rows = RowOptimizer(RULES[config.optimizer], self.table)
        self.dense = DenseOptimizer(RULES[config.dense_optimizer], list(self.head.parameters()))
        self.decay = lazy_decay(self.batch_size, counts, len(labels))
        self.prior_precision = torch.tensor(
            [1 / config.embedding_variance] * (width - 1) + [1 / config.weight_variance]
        )
        self.distinct = DistinctRows(len(counts))
        self._layers = layers_of(self.head, config.threads)
        self._by_rows = DistinctStep(self.head, self._layers)
        self._workspace = torch.empty(2, 0, 0, 0)
        self.has_own_blocks = bool((np.diff(oov_rows) > 0).all())  # of table rows, in the order of the fields
        self.block_starts = np.append(oov_rows - OOV, len(counts))
        self.step = 0
        self.first_step, self.first_head_step = 1.0, 1.0
        self.prior: InheritedPrior | None = None
        if inheritance is not None:
            self.first_step, self.first_head_step = WARM_STEP, WARM_HEAD_STEP
            self.table.numpy()[inheritance.rows] = inheritance.table  # a memory map, which torch would not take
            self.head.load_state_dict({name: torch.tensor(array) for name, array in inheritance.head.items()})
            variance = base_rate * (1 - base_rate)
            self.prior = InheritedPrior(inheritance, len(counts), variance)
            if "adagrad" in config.optimizer:
                self.rows.state[0][torch.from_numpy(inheritance.rows)] = WARM_SQUARES * variance / self.batch_size**2

    def learn(self, batch: EncodedBatch, labels: Tensor) -> float:
        """Do one step on b impressions; return their mean log loss before it."""
        self.step += 1
        ids, weights, offsets = batch_tensors(batch)
        if self.config.id_dropout:
            ids = self._drop_ids(ids, offsets)
        touched, index = self.distinct.find(ids)
        values = self.table.index_select(0, touched)  # [U, E+1]
        if self.has_own_blocks and batch.is_single and len(touched) * FEW_ROWS <= len(ids):
            bounds = np.searchsorted(touched.numpy(), self.block_starts)
            kept = self._kept_fields(torch.Size((len(batch), batch.num_fields))).squeeze(2)
            loss, gradient = self._by_rows.differentiate(values, bounds, index, kept, labels)
        else:
            fields = pool(values, index, weights, offsets, batch.num_fields)  # [b, F, E+1]
            loss, by_field = self._differentiate(fields, labels)
            gradient = gradient_of_rows(by_field, index, weights, offsets, len(touched))
        if not math.isfinite(loss):
            return loss
        remaining = 1 - (self.step - 1) / self.num_steps
        learning_rate = self.config.learning_rate * self.first_step * remaining
        if self.prior is None:
            precision = self.prior_precision
            self.rows.step_decayed(touched, values, gradient, self.decay, precision, self.step, learning_rate)
        else:
            means, certainty = self.prior.of(touched)
            precision = self.prior_precision + certainty
            gradient.addcmul_(values - means, self.decay.index_select(0, touched).unsqueeze(1) * precision)
            self.rows.step(touched, gradient, self.step, learning_rate)
        if self.config.dense_l2:
            for parameter in self.head.parameters():
                if parameter.grad is not None and parameter.dim() > 1:
                    parameter.grad += self.config.dense_l2 * parameter.detach()
        self.dense.step(self.step, self.config.dense_learning_rate * self.first_head_step * remaining)
        return loss

    def _differentiate(self, fields: Tensor, labels: Tensor) -> tuple[float, Tensor]:
        """Return the mean log loss and its gradient by ``fields``, float32 [b, F, E+1]; fill the gradients of the head.

        The logit is that of `DeepFMHead.forward`. Its first two orders have gradients of one line each, with
        g = ∂loss/∂logit = (σ(logit) − label)/b: g for a weight, g·(Σ_j v_j − v_i) for an embedding v_i. Nothing of the size
        of [b, F, E] is made anew: a pass over new memory takes twice as long as one over old. The gradient takes the place
        of ``fields``.
        """
        kept = self._kept_fields(fields.shape[:2])  # [b, F, 1]; a dropped field keeps its first-order weight:
        embeddings, by_embedding = self._buffers(fields[..., :-1].shape)  # without interactions, a logistic regression
        torch.mul(fields[..., :-1], kept, out=embeddings)
        inputs, total = embeddings.flatten(1), embeddings.sum(dim=1)  # [b, F·E], [b, E]
        first = self.head.deep[0]
        with torch.no_grad():
            deep = self._layers.forward(first(inputs))
            second = 0.5 * (total.square().sum(dim=1) - torch.linalg.vector_norm(inputs, dim=1).square())
            logits = self.head.bias + first_order(fields[..., -1]) + second + deep
            loss = functional.binary_cross_entropy_with_logits(logits, labels).item()
            g = (torch.sigmoid(logits) - labels) / len(labels)  # [b]
            by_sums = self._layers.backward(g)
            self.head.bias.grad, first.weight.grad = g.sum(), by_sums.T @ inputs
            g = g.view(-1, 1, 1)
            torch.addcmul(g * total.unsqueeze(1), embeddings, -g, out=by_embedding)  # g·(Σ_j v_j − v_i)
            by_embedding.flatten(1).addmm_(by_sums, first.weight)
            torch.mul(by_embedding, kept, out=fields[..., :-1])
            fields[..., -1:] = g
        return loss, fields

    def _buffers(self, shape: torch.Size) -> Tensor:
        """Return two tensors of a shape; the memory is that of the last step, since new one costs page faults."""
        if self._workspace.shape[2:] != shape[1:] or self._workspace.shape[1] < shape[0]:
            self._workspace = torch.empty(2, *shape)
        return self._workspace[:, : shape[0]]

    def _kept_fields(self, shape: torch.Size) -> Tensor:
        rate = self.config.field_dropout
        return ((torch.rand(shape) >= rate) / (1 - rate)).unsqueeze(2) if rate else torch.ones(*shape, 1)

    def _drop_ids(self, ids: Tensor, offsets: Tensor) -> Tensor:
        num_fields = len(self.oov_rows)
        fields = torch.arange(len(offsets) - 1).remainder(num_fields).repeat_interleave(offsets.diff())
        return torch.where(torch.rand(len(ids)) < self.config.id_dropout, self.oov_rows[fields], ids)

    def logits(self, rows: PackedRows) -> NDArray[np.float32]:
        """Return the logits float32 [B] of the model as it stands."""
        return score_rows(Predictor(self.head.frozen(), Calibration()), rows, self.table.numpy())

    def tensors(self) -> dict[str, Tensor]:
        """Return all that changes while learning, by name; writing into them sets the state."""
        named = {"table": self.table, "generator": torch.get_rng_state()}
        named |= {f"head.{key}": value for key, value in self.head.state_dict().items()}
        named |= {f"rows.{i}": value for i, value in enumerate(self.rows.state)}
        return named | {f"dense.{i}.{j}": s for i, state in enumerate(self.dense.state) for j, s in enumerate(state)}


def gradient_of_rows(gradient: Tensor, index: Tensor, weights: Tensor, offsets: Tensor, num_rows: int) -> Tensor:
    """Return the gradient float32 [U, E+1] of the rows that `models.network.deepfm.pool` summed, given that of its bags.

    Pooling is a sparse matrix A [b·F, U] times the rows, so this is Aᵀ times the gradient: one pass over the entries,
    where autograd of ``embedding_bag`` sorts them first, which takes most of a step.

    Args:
        gradient: float32 [b, F, E+1].
        index: int64 [N], which of the U rows each entry is.
        weights: float32 [N].
        offsets: int64 [b·F + 1].
        num_rows: U.
    """
    bags = gradient.flatten(0, 1).numpy()
    pooling = csr_array((weights.numpy(), index.numpy(), offsets.numpy()), shape=(len(bags), num_rows))
    return torch.from_numpy(pooling.T @ bags)


def lazy_decay(batch_size: int, counts: NDArray[np.int64], num_rows: int) -> Tensor:
    """Return 1/(n·p_i) per table row, float32 [R]: what a touched row must pay to be decayed, on average, in every step.

    A Gaussian prior of variance σ² adds v²/(2σ²n) to the mean log loss. Rows are only visited by batches that hold them,
    with probability p_i = 1 − (1 − c_i/n)^b for a row that c_i of n impressions hold; dividing by p_i makes the lazy
    penalty equal to the full one in expectation, as a logistic regression has it.
    """
    share = np.clip(counts / num_rows, 1 / num_rows, 1 - 1e-12)
    touched = -np.expm1(batch_size * np.log1p(-share))
    return torch.from_numpy((1.0 / (num_rows * touched)).astype(np.float32))


def settle_untouched_rows(
    table: NDArray[np.float32], counts: NDArray[np.int64], block_starts: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the table with each row that training never saw set to the mean of its block's rows, weighted by count.

    Where the training rows hold no null, MISSING would keep the noise that it began with, and so would OOV where no token
    was rare. The mean of what the field usually says is the best guess for a value that says nothing.

    Args:
        table: float32 [R, E+1].
        counts: int64 [R], how often training saw each row.
        block_starts: int64 [V], where each block begins.
    """
    settled = table.copy()
    for start, end in pairwise([*block_starts.tolist(), len(table)]):
        block, seen = table[start:end], counts[start:end]
        if seen.sum():
            settled[start:end][seen == 0] = np.average(block, axis=0, weights=seen)
    return settled


def batch_size_of(config: LearnerConfig, num_rows: int) -> int:
    """Return the impressions in a step of a run on so many rows."""
    return config.batch_size or int(np.clip(2 ** round(np.log2(max(num_rows / STEPS_IN_EPOCH, 1))), 64, 4_096))
