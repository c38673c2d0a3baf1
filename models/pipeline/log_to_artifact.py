"""Trains on a log and writes an artifact: log → encoder → DeepFM → calibration → checked artifact. Prints nothing."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from models.artifact.artifact import load_artifact
from models.artifact.current import set_current
from models.artifact.golden_rows import make_golden
from models.artifact.manifest import FORMAT_VERSION, Manifest
from models.artifact.tensor_file import Tensors
from models.artifact.writing import model_files, write_artifact
from models.data.preparation import Prepared, Say, prepare
from models.data.warm_start import ROWS_BEFORE
from models.errors import TrainingError
from models.evaluation.promotion_bounds import Requirement, failures
from models.explanation.uncertainty import Gradients, fit_uncertainty
from models.network.calibration import Calibration, fit_calibration
from models.network.predictor import Predictor, score_rows
from models.pipeline.assessment import Scorer, assess, environment_of, peak_memory_bytes, score_reference
from models.report.rendering import render_model_card, render_report
from models.report.report_data import ReportData
from models.schema.feature_schema import FeatureSchema
from models.training.fit_and_refit import Stage, checkpoint_of, fit, refit
from models.training.train_config import TrainConfig
from models.training.train_step import device_of
from models.training.trainer import Progress, Trained
from models.training.tuning import TuneProgress, tune


class Tuning(NamedTuple):
    """How many seconds to search for better settings, and a callback for the progress."""

    seconds: float
    progress: TuneProgress


@dataclass(frozen=True)
class TrainResult:
    """What a training run has written.

    Args:
        directory: of the artifact.
        manifest: the artifact's.
        report: with the metrics of the parts ``validation`` and, if the split has one, ``test``.
        failures: requirements that were not met; if there are any, the artifact is not the current one.
        peak_memory_bytes: the largest resident size of the process.
        artifact_bytes: size of the artifact.
    """

    directory: Path
    manifest: Manifest
    report: ReportData
    failures: tuple[str, ...]
    peak_memory_bytes: int
    artifact_bytes: int


def train(
    data: Sequence[str],
    schema: FeatureSchema,
    config: TrainConfig,
    out: Path,
    progress: Progress,
    say: Say,
    requirements: Sequence[Requirement] = (),
    init_from: Path | None = None,
    compare: Path | None = None,
    tuning: Tuning | None = None,
    schema_file: Path = Path("schema.toml"),
) -> TrainResult:
    """Train on a log, write an artifact below ``out`` and, if it meets the requirements, make it the current one.

    A run that was killed resumes from its last checkpoint when it is called again with the same data, schema and
    configuration; tuning starts anew.

    Args:
        data: paths or glob patterns.
        schema: what the columns mean.
        config: of the training.
        out: directory of artifacts.
        progress: called after each batch.
        say: called with one line for each stage.
        requirements: bounds for the metrics of the last held-out part.
        init_from: directory of an artifact for a warm start.
        compare: directory of an artifact that scores the same held-out rows, for the report.
        tuning: search for better settings than ``config`` first.
        schema_file: where ``schema`` stands, for the command in the model card.

    Raises:
        LogError: the log cannot be read as the schema says.
        SchemaError: the split leaves a part empty, or the fields do not fit one of the two artifacts.
        ArtifactError: one of the two artifacts is damaged.
        TrainingError: the loss is not finite, the model's sizes are not those of ``init_from``, or there is no such device.
    """
    started = time.monotonic()
    # use_deterministic_algorithms would import a compiler, which takes 0.8 s
    torch.set_deterministic_debug_mode("error")
    torch.set_num_threads(config.threads)
    device_of(config)  # an error before the log is read
    out.mkdir(parents=True, exist_ok=True)
    before, champion = (None if path is None else load_artifact(path.resolve()) for path in (init_from, compare))
    if before is not None and before.manifest.model != config.model:
        raise TrainingError(f"--init-from: the artifact has a model of other sizes: {before.manifest.model}")
    key = hashlib.sha256(repr((list(data), schema, config)).encode()).hexdigest()[:16]
    with _temporary_folder(out / f".shards-{key}") as folder:
        prepared = prepare(data, schema, config.seed, config.shard_rows, folder, say, before, champion)
        if tuning is not None:
            tuned = tune(prepared, config, tuning.seconds, tuning.progress)
            config = tuned.config
            for line in tuned.lines():
                say(line)
        trained = fit(prepared, config, out, progress, say)
        validation = prepared.held_out["validation"].part.load()
        logits = score_rows(Predictor(trained.head.frozen(), Calibration()), validation.rows, trained.table)
        calibration = fit_calibration(logits, validation.labels, schema.negatives_kept)
        final, counts = trained, prepared.counts
        if config.refit:
            final, counts = refit(prepared, config, trained, calibration, out, progress, say)
        for stage in Stage:
            checkpoint_of(prepared, config, out, stage).unlink(missing_ok=True)
        measured, served = (_scorer(prepared, model, calibration) for model in (trained, final))
        say(f"calibration: {calibration.method}; writing the report")
        created = datetime.now(UTC).replace(microsecond=0)
        model_version = f"{created:%Y%m%dT%H%M%S}-{hashlib.sha256(served.table.tobytes()).hexdigest()[:8]}"
        environment = environment_of(trained, time.monotonic() - started)
        options = ["--data", *data, "--schema", str(schema_file), "--out", str(out)]
        for name, path in (("init-from", init_from), ("compare", compare)):
            options += [] if path is None else [f"--{name}", str(path)]
        report = assess(
            prepared, trained, measured, served, config, model_version, created.isoformat(), options, environment
        )
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            model_version=model_version,
            created=created.isoformat(),
            model=config.model,
            table_rows=prepared.encoder.num_rows,
            training=config.model_dump(mode="json") | _ancestry(prepared),
            data=prepared.facts,
            metrics={part.name: part.metrics.model_dump() for part in report.parts},
            environment=environment,
            scores=score_reference(report.parts[-1].probabilities, schema.negatives_kept),
            files={},
        )
        directory = _write(out, manifest, prepared, final, served.predictor, config, counts, report)
    missed = failures(requirements, report.parts[-1].metrics)
    if not missed:
        set_current(out, model_version)
    size = sum(path.stat().st_size for path in directory.iterdir())
    return TrainResult(directory, manifest, report, missed, peak_memory_bytes(), size)


@contextmanager
def _temporary_folder(folder: Path) -> Iterator[Path]:
    shutil.rmtree(folder, ignore_errors=True)  # left by a run that was killed
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _scorer(prepared: Prepared, model: Trained, calibration: Calibration) -> Scorer:
    # The same head as in serving, so that the report describes exactly what will answer.
    head = model.head.frozen(model.table, prepared.encoder.single_fields())
    return Scorer(Predictor(head, calibration), model.table)


def _ancestry(prepared: Prepared) -> dict[str, str | int]:
    before = prepared.inheritance
    return {} if before is None else {"init_from": before.model_version, ROWS_BEFORE: before.num_rows}


def _write(
    out: Path,
    manifest: Manifest,
    prepared: Prepared,
    trained: Trained,
    predictor: Predictor,
    config: TrainConfig,
    counts: NDArray[np.int64],
    report: ReportData,
) -> Path:
    encoder = prepared.encoder
    golden = make_golden(encoder, predictor, trained.table, prepared.golden)
    if prepared.inheritance is not None:
        counts = prepared.inheritance.with_counts(counts)
    head = {key: value.numpy() for key, value in trained.head.state_dict().items()}
    embeddings: Tensors = {"rows": trained.table, "counts": counts}
    texts, tensors = model_files(encoder, predictor.calibration, golden, embeddings, head)
    tensors["evidence.safetensors"] = _evidence(prepared, predictor, trained, config, head)
    texts |= {"report.html": render_report(report), "model_card.md": render_model_card(report)}
    return write_artifact(out, manifest, texts, tensors)


def _evidence(
    prepared: Prepared, predictor: Predictor, trained: Trained, config: TrainConfig, head: Tensors
) -> Tensors:
    """Return the tensors of ``evidence.safetensors``, from the rows of the first shard."""
    by_part = np.full((len(prepared.encoder.block_starts), 2), (config.embedding_variance, config.weight_variance))
    if trained.evidence is not None:
        by_part = trained.evidence.variances(config)
    variance = np.repeat(by_part, (config.model.embedding_dim, 1), axis=1)  # [V, E+1]
    gradients = Gradients(config.model, len(prepared.schema.fields), head)
    sample = prepared.train[0].load().rows
    return fit_uncertainty(prepared.encoder, predictor, gradients, trained.table, sample, variance)
