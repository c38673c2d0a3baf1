"""The two stages of learning: until validation says stop, then once more with the validation rows. Each has a checkpoint."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.data.preparation import Prepared, Say
from models.data.shards import deal
from models.network.calibration import Calibration, level_shift
from models.network.predictor import Predictor, score_rows
from models.training.train_step import Learner, LearnerConfig, batch_size_of, settle_untouched_rows
from models.training.trainer import Learnt, Progress, learn, relearn


class Stage(StrEnum):
    """Of a run: each has a checkpoint of its own."""

    LEARN = ""
    REFIT = "refit"


def learn_and_stop(prepared: Prepared, config: LearnerConfig, out: Path, progress: Progress, say: Say) -> Learnt:
    """Learn from the training rows until validation no longer gains; rows never seen are settled."""
    inheritance = prepared.inheritance
    learner = Learner(config, prepared.counts, prepared.encoder.oov_rows, prepared.labels, inheritance)
    checkpoint = checkpoint_of(prepared, config, out, Stage.LEARN)
    if checkpoint.exists():
        say(f"going on from {checkpoint}")
    learnt = learn(learner, prepared.train, prepared.held_out["validation"].part, progress, checkpoint)
    say(f"best epoch: {learnt.best_epoch} of {len(learnt.history)}")
    return replace(learnt, table=_settled(prepared, config, learnt.table, prepared.counts))


def refit(
    prepared: Prepared,
    config: LearnerConfig,
    learnt: Learnt,
    calibration: Calibration,
    out: Path,
    progress: Progress,
    say: Say,
) -> tuple[Learnt, NDArray[np.int64]]:
    """Learn the training and the validation rows from the beginning; return that, and how often it saw each table row.

    The newest rows are worth most, and validation has said all it can: when to stop, and the calibration. That keeps its
    shape; the bias is moved until, calibrated, the new model too promises as many clicks on the validation rows as there
    were. Without that the level would be corrected twice: by the map, and by having learnt those rows.
    """
    say("learning again, with the validation rows")
    validation = prepared.held_out["validation"]
    examples = validation.part.load()
    counts = prepared.counts + validation.counts
    labels = np.concatenate([prepared.labels, examples.labels])
    size = batch_size_of(config, len(prepared.labels))
    own = config.model_copy(update={"batch_size": size})
    learner = Learner(own, counts, prepared.encoder.oov_rows, labels, prepared.inheritance)
    checkpoint = checkpoint_of(prepared, config, out, Stage.REFIT)
    relearn(learner, deal(prepared.train, validation.part), learnt.best_epoch, progress, checkpoint)
    table = _settled(prepared, config, learner.table.numpy(), counts)
    logits = score_rows(Predictor(learner.head.frozen(), Calibration()), examples.rows, table)
    learner.head.bias.data += level_shift(calibration, logits, examples.labels)
    return replace(learnt, table=table, head=learner.head), counts


def checkpoint_of(prepared: Prepared, config: LearnerConfig, out: Path, stage: Stage) -> Path:
    """Return where a stage of this run keeps its state; only the same data, schema and settings give the same path."""
    run = prepared.facts.digest + prepared.schema.model_dump_json() + config.model_dump_json() + stage
    if prepared.inheritance is not None:
        run += prepared.inheritance.model_version
    return out / f".checkpoint-{hashlib.sha256(run.encode()).hexdigest()[:16]}.safetensors"


def _settled(
    prepared: Prepared, config: LearnerConfig, table: NDArray[np.float32], counts: NDArray[np.int64]
) -> NDArray[np.float32]:
    before = prepared.inheritance  # rows that these days have not seen keep what others have taught them
    seen = counts.copy() if before is None else before.with_counts(counts)
    if config.id_dropout:  # which has trained the out-of-vocabulary rows
        seen[prepared.encoder.oov_rows] = np.maximum(seen[prepared.encoder.oov_rows], 1)
    return settle_untouched_rows(table, seen, prepared.encoder.block_starts)
