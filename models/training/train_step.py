"""One step of training: a batch's loss by `DeepFMHead.forward`, its gradients by autograd, an update of rows and head.

Knows nothing of epochs, files or printing.
"""

from __future__ import annotations

import math
import os
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.data.warm_start import Inheritance
from models.errors import TrainingError
from models.features.packed_rows import PackedRows
from models.features.vocabulary import OOV
from models.network.calibration import Calibration
from models.network.deepfm import Bags, DeepFMHead
from models.network.predictor import Predictor, score_rows
from models.training.evidence import Evidence
from models.training.prior import GaussianPrior
from models.training.rowwise_adagrad import RowwiseAdagrad
from models.training.ties import Ties
from models.training.train_config import TrainConfig, batch_size_of
from models.training.unique_rows import Unique, UniqueRows

WARM_STEP, WARM_HEAD_STEP = 0.5, 0.01
"""Step sizes of the rows and of the head in a warm start, relative to a first run. The head, which all values share, has seen
enough: it nearly stays."""
WARM_SQUARES = 40.0
"""Sums of squared gradients that a known row begins with in a warm start, and a weight that begins at the first order's optimum,
in units of p(1 − p)/b²: about what a first run leaves there. New rows begin with none."""


class TrainStep:
    """A DeepFM in training.

    Args:
        config: how.
        counts: int64 [R], how often each table row occurs in the training rows.
        oov_rows: int64 [F], each field's out-of-vocabulary row.
        labels: float32 [n], of the training rows.
        inheritance: an artifact's weights to go on from.
        evidence: what the log says before the epochs; without it all rows have the variances of ``config``.
        embedding_rows: int64 [R], the row whose embedding each row has; without it each has its own.
    """

    def __init__(
        self,
        config: TrainConfig,
        counts: NDArray[np.int64],
        oov_rows: NDArray[np.int64],
        labels: NDArray[np.float32],
        inheritance: Inheritance | None = None,
        evidence: Evidence | None = None,
        embedding_rows: NDArray[np.int64] | None = None,
    ) -> None:
        self.config = config
        self.device = device_of(config)
        self.batch_size = batch_size_of(config, len(labels))
        self.rows_seen = 0
        self._rows_to_see = max(1, len(labels) // self.batch_size) * self.batch_size * config.epochs
        torch.manual_seed(config.seed)
        E, R = config.model.embedding_dim, len(counts)
        variances = np.full((R, 2), (config.embedding_variance, config.weight_variance))
        if evidence is not None:
            variances = evidence.variances(config)[evidence.block_of]
        deviation = torch.from_numpy(np.sqrt(variances[:, :1]).astype(np.float32)).clamp(max=config.init_std)
        table = torch.randn(R, E + 1) * deviation
        table[:, -1] = 0.0
        head = DeepFMHead(config.model, len(oov_rows))
        base_rate = float(np.clip(labels.mean(), 1e-6, 1 - 1e-6))
        head.bias.data.fill_(math.log(base_rate / (1 - base_rate)))
        if evidence is not None:
            table[:, -1] = torch.from_numpy(evidence.first_order.weights)
            head.bias.data.fill_(evidence.first_order.bias)
        if inheritance is not None:
            table.numpy()[inheritance.rows] = inheritance.table  # a memory map, which torch would not take
            head.load_state_dict({name: torch.tensor(array) for name, array in inheritance.head.items()})
        self.table, self.head = table.to(self.device), head.to(self.device)
        self.rows = RowwiseAdagrad(self.table)
        self.dense = _adam(head, config.dense_l2)
        self.rates = np.array([config.learning_rate, config.dense_learning_rate])
        seen, variance = counts_after_dropout(counts, oov_rows, config.id_dropout), base_rate * (1 - base_rate)
        shared = seen if embedding_rows is None else np.bincount(embedding_rows, seen, R)[embedding_rows]
        precision = torch.from_numpy((1 / variances).astype(np.float32)).to(self.device)
        self.prior = GaussianPrior(precision, np.stack((shared, seen), axis=1), inheritance, variance)
        self._squares_left = WARM_SQUARES * variance / self.batch_size**2
        self.begins_at_first_order = evidence is not None
        if evidence is not None:
            self.rows.squares[:, 1] = self._squares_left
        if inheritance is not None:
            self.rates *= WARM_STEP, WARM_HEAD_STEP
            known = torch.from_numpy(inheritance.rows).to(self.device)
            self.rows.squares[known] = self._squares_left
        self._oov_rows = torch.from_numpy(oov_rows.astype(np.int32)).to(self.device)
        self._has_own_blocks = bool((np.diff(oov_rows) > 0).all())  # no two fields share table rows
        self._unique = UniqueRows(R)
        self._ties = None if embedding_rows is None else Ties(embedding_rows, self.device)

    def __call__(self, batch: PackedRows, labels: NDArray[np.float32]) -> float:
        """Do one step on b impressions with labels float32 [b]; return their mean log loss before it.

        Where that is not finite nothing is updated.
        """
        remaining = max(0.0, 1 - self.rows_seen / self._rows_to_see)
        self.rows_seen += len(batch)
        clicks = torch.from_numpy(labels).to(self.device)
        unique, bags = self._look_up(batch)
        if self._ties is not None:
            unique, owners = self._ties.close(unique)
            bags = replace(bags, index=unique.index)
        values = self.table.index_select(0, unique.rows).requires_grad_()  # [U, E+1]
        tied = values if self._ties is None else torch.cat((values[owners, :-1], values[:, -1:]), dim=1)
        logits = self.head(tied, bags, self._field_mask(len(batch)))
        loss = functional.binary_cross_entropy_with_logits(logits, clicks)
        mean_loss = loss.item()
        if not math.isfinite(mean_loss):
            return mean_loss
        self.dense.zero_grad()
        (loss + self.prior.penalty(tied, unique, len(batch))).backward()  # type: ignore[no-untyped-call]
        assert values.grad is not None
        rate, dense_rate = self.rates * remaining
        self.rows.step(unique.rows, values.grad, float(rate))
        for group in self.dense.param_groups:
            group["lr"] = float(dense_rate)
        self.dense.step()
        return mean_loss

    def _look_up(self, batch: PackedRows) -> tuple[Unique, Bags]:
        ids, lengths, weights = torch.from_numpy(batch.ids).to(self.device), None, None
        if batch.lengths is not None:
            lengths = torch.from_numpy(batch.lengths.reshape(-1).astype(np.int64)).to(self.device)
            weights = torch.from_numpy(batch.weights()).to(self.device)
        if self.config.id_dropout:
            oov = self._oov_rows.repeat(len(batch))
            if lengths is not None:
                oov = oov.repeat_interleave(lengths, output_size=len(ids))
            ids = torch.where(torch.rand(len(ids), device=self.device) < self.config.id_dropout, oov, ids)
        unique = self._unique.find(ids)
        return unique, Bags(unique.index, batch.num_fields, lengths, weights, self._has_own_blocks)

    def _field_mask(self, b: int) -> Tensor | None:
        rate = self.config.field_dropout
        if not rate:
            return None
        return (torch.rand(b, self.head.num_fields, device=self.device) >= rate) / (1 - rate)

    def logits(self, rows: PackedRows) -> NDArray[np.float32]:
        """Return the logits float32 [B] of the model as it stands."""
        if self._ties is not None:
            self._ties.copy_embeddings(self.table)
        return score_rows(Predictor(self.head.frozen(), Calibration()), rows, self.table.numpy(force=True))

    def leave_first_order(self) -> None:
        """Leave the first order alone; the deep part of embeddings of zero is zero at the start."""
        self.table[:, :-1] = 0.0

    def state_dict(self) -> dict[str, Tensor]:
        """Return all tensors that a step changes, by name."""
        state = {"table": self.table, "squares": self.rows.squares, "generator": torch.get_rng_state()}
        if self.device.type == "cuda":
            state["cuda_generator"] = torch.cuda.get_rng_state(self.device)
        state |= {f"head.{name}": tensor for name, tensor in self.head.state_dict().items()}
        for i, moments in self.dense.state_dict()["state"].items():
            state |= {f"adam.{i}.{name}": tensor for name, tensor in moments.items()}
        return state

    def load_state_dict(self, state: dict[str, Tensor], rows_seen: int) -> None:
        """Go on from what `state_dict` returned after so many impressions.

        Raises:
            KeyError: a tensor is missing.
            RuntimeError: a tensor is of another shape.
        """
        self.rows_seen = rows_seen
        self.table.copy_(state["table"])
        self.rows.squares.copy_(state["squares"])
        self.head.load_state_dict({name: state[f"head.{name}"] for name in self.head.state_dict()})
        moments: dict[int, dict[str, Tensor]] = {}
        for key, tensor in state.items():
            if key.startswith("adam."):
                _, i, name = key.split(".")
                moments.setdefault(int(i), {})[name] = tensor
        self.dense.load_state_dict({"state": moments, "param_groups": self.dense.state_dict()["param_groups"]})
        torch.set_rng_state(state["generator"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_generator"], self.device)


def device_of(config: TrainConfig) -> torch.device:
    """Return where to train.

    Raises:
        TrainingError: a GPU is asked for and torch finds none.
    """
    if config.device == "cpu" or (config.device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise TrainingError("--device cuda: torch finds no GPU")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS is not deterministic
    return torch.device("cuda")


def _adam(head: nn.Module, l2: float) -> torch.optim.Adam:
    matrices = [p for p in head.parameters() if p.dim() > 1]
    rest = [p for p in head.parameters() if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": l2}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.Adam(groups, fused=True)


def counts_after_dropout(
    counts: NDArray[np.int64], oov_rows: NDArray[np.int64], id_dropout: float
) -> NDArray[np.float64]:
    """Return how often each row occurs in an epoch, float64 [R], when ids are dropped to their field's OOV row."""
    oov, expected = np.unique(oov_rows), counts.astype(np.float64)
    dropped = id_dropout * np.add.reduceat(expected, oov - OOV)  # of each block
    expected *= 1 - id_dropout
    expected[oov] += dropped
    return expected
