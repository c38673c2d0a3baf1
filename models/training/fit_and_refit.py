"""The two stages of training: with early stopping, then again with the validation rows. Each has a checkpoint of its own."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from enum import StrEnum
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.data.preparation import Prepared, Say
from models.data.shards import deal
from models.network.calibration import Calibration, level_shift
from models.network.predictor import Predictor, score_rows
from models.training.evidence import Evidence, find_evidence, with_more
from models.training.train_config import TrainConfig, batch_size_of
from models.training.train_step import TrainStep
from models.training.trainer import Progress, Trained, Trainer


class Stage(StrEnum):
    """Of a training run."""

    FIT = ""
    REFIT = "refit"


def make_step(prepared: Prepared, config: TrainConfig, evidence: Evidence | None) -> TrainStep:
    """Return a model for a log's training rows, not trained yet."""
    encoder = prepared.encoder
    given = (prepared.inheritance, evidence, encoder.embedding_rows())
    return TrainStep(config, prepared.counts, encoder.oov_rows, prepared.labels, *given)


def fit(prepared: Prepared, config: TrainConfig, out: Path, progress: Progress, say: Say) -> Trained:
    """Train until the validation log loss stops falling; rows never seen get their block's mean."""
    checkpoint = checkpoint_of(prepared, config, out, Stage.FIT)
    if checkpoint.exists():
        say(f"going on from {checkpoint}")
    evidence = find_evidence(prepared, config, say)
    trainer = Trainer(make_step(prepared, config, evidence), prepared.train, progress, checkpoint)
    trained = trainer.fit(prepared.held_out["validation"].part)
    alone = ": the first order alone" if trained.best_epoch == 0 else ""
    say(f"best epoch: {trained.best_epoch} of {len(trained.history)}{alone}")
    table = _settled(prepared, config, trained.table, prepared.counts)
    return replace(trained, table=table, evidence=evidence)


def refit(
    prepared: Prepared,
    config: TrainConfig,
    trained: Trained,
    calibration: Calibration,
    out: Path,
    progress: Progress,
    say: Say,
) -> tuple[Trained, NDArray[np.int64]]:
    """Train on the training and the validation rows from the beginning; return that, and how often it saw each table row.

    The newest rows are worth most, and validation has served its purpose: when to stop, and the calibration. The calibration
    keeps its shape; the bias is moved until, calibrated, the new model promises as many clicks on the validation rows as
    the model before. Without that the level would be corrected twice: by the calibration, and by having seen those rows.
    """
    say("training again, with the validation rows")
    validation = prepared.held_out["validation"]
    examples = validation.part.load()
    counts = prepared.counts + validation.counts
    labels = np.concatenate([prepared.labels, examples.labels])
    same_batches = config.model_copy(update={"batch_size": batch_size_of(config, len(prepared.labels))})
    shards, evidence, encoder = deal(prepared.train, validation.part), trained.evidence, prepared.encoder
    if evidence is not None:
        evidence = with_more(evidence, prepared, shards, config)
    given = (prepared.inheritance, evidence, encoder.embedding_rows())
    step = TrainStep(same_batches, counts, encoder.oov_rows, labels, *given)
    checkpoint = checkpoint_of(prepared, config, out, Stage.REFIT)
    again = Trainer(step, shards, progress, checkpoint).fit_again(trained.best_epoch)
    table = _settled(prepared, config, again.table, counts)
    before, after = (
        score_rows(Predictor(head.frozen(), Calibration()), examples.rows, rows)
        for head, rows in ((trained.head, trained.table), (again.head, table))
    )
    again.head.bias.data += level_shift(calibration, after, float(calibration.of_log(before).sum()))
    return replace(trained, table=table, head=again.head), counts


def checkpoint_of(prepared: Prepared, config: TrainConfig, out: Path, stage: Stage) -> Path:
    """Return where a stage of this run keeps its state; only the same data, schema and settings give the same path."""
    run = prepared.facts.digest + prepared.schema.model_dump_json() + config.model_dump_json() + stage
    if prepared.inheritance is not None:
        run += prepared.inheritance.model_version
    return out / f".checkpoint-{hashlib.sha256(run.encode()).hexdigest()[:16]}.safetensors"


def settle_unseen_rows(
    table: NDArray[np.float32], counts: NDArray[np.int64], block_starts: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the table with each row that training never saw set to the mean of its block's rows, weighted by count.

    Where the training rows hold no null, MISSING would keep its random start, and so would OOV where no token was rare. The
    mean of what the field usually says is the best guess for a value that says nothing.

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


def _settled(
    prepared: Prepared, config: TrainConfig, table: NDArray[np.float32], counts: NDArray[np.int64]
) -> NDArray[np.float32]:
    before = prepared.inheritance  # rows that this log does not hold keep what the artifact knew of them
    seen = counts.copy() if before is None else before.with_counts(counts)
    if config.id_dropout:  # which has trained the out-of-vocabulary rows
        seen[prepared.encoder.oov_rows] = np.maximum(seen[prepared.encoder.oov_rows], 1)
    starts, owners = prepared.encoder.block_starts, prepared.encoder.embedding_rows()
    if owners is None:
        return settle_unseen_rows(table, seen, starts)
    together = np.bincount(owners, seen, len(table)).astype(np.int64)
    embeddings = settle_unseen_rows(table[:, :-1], together, starts)[owners]
    return np.concatenate((embeddings, settle_unseen_rows(table[:, -1:], seen, starts)), axis=1)
