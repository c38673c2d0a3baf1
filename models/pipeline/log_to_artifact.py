"""The whole offline path as one call: log → encoder → DeepFM → calibration → checked artifact. Prints nothing."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Mapping, Sequence
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
from models.artifact.writing import write_artifact
from models.data.preparation import Prepared, Say, prepare
from models.data.warm_start import ROWS_BEFORE
from models.errors import TrainingError
from models.evaluation.metrics import Metrics
from models.evaluation.promotion_bounds import Requirement, failures
from models.network.calibration import Calibration, fit_calibration
from models.network.predictor import Predictor, score_rows
from models.pipeline.assessment import Scorer, assess, environment_of, metrics_of, peak_memory_bytes, score_reference
from models.report.rendering import ReportData, render_model_card, render_report
from models.schema.feature_schema import FeatureSchema
from models.training.fit_and_refit import Stage, checkpoint_of, learn_and_stop, refit
from models.training.train_step import LearnerConfig
from models.training.trainer import Learnt, Progress
from models.training.tuning import TuneProgress, tune


class Tuning(NamedTuple):
    """For how many seconds to look for settings, and whom to tell meanwhile."""

    seconds: float
    progress: TuneProgress


@dataclass(frozen=True)
class TrainResult:
    """What a training run left behind; metrics by part, ``validation`` and, where there is one, ``test``."""

    directory: Path
    manifest: Manifest
    metrics: Mapping[str, Metrics]
    baseline: Mapping[str, Metrics]
    champion: Mapping[str, Metrics]
    """Of the artifact that was compared with, where there was one."""
    learnt: Learnt
    failures: tuple[str, ...]
    """Requirements that were not met: the artifact is there, but not the current one."""
    peak_memory_bytes: int
    artifact_bytes: int


def train(
    data: Sequence[str],
    schema: FeatureSchema,
    config: LearnerConfig,
    out: Path,
    progress: Progress,
    say: Say,
    requirements: Sequence[Requirement] = (),
    init_from: Path | None = None,
    compare: Path | None = None,
    tuning: Tuning | None = None,
) -> TrainResult:
    """Train on a log, write an artifact below ``out`` and, if it meets the requirements, make it the current one.

    A killed run goes on from its last checkpoint when it is called again with the same data, schema and configuration;
    tuning begins anew.

    Args:
        data: paths or glob patterns.
        schema: what the columns mean.
        config: how to learn.
        out: directory of artifacts.
        progress: called after each batch.
        say: called with one line for each stage.
        requirements: what the metrics of the last held-out part must reach.
        init_from: directory of an artifact to go on from.
        compare: directory of an artifact that scores the same held-out rows, for the report.
        tuning: look for better settings than ``config`` first.

    Raises:
        LogError: the log cannot be read as the schema says.
        SchemaError: the split leaves a part empty, the fields are not those of the artifact to go on from, or lack one
            that the artifact to compare with needs.
        ArtifactError: one of the two artifacts is not whole.
        TrainingError: the loss is not finite.
    """
    torch.set_deterministic_debug_mode("error")  # as use_deterministic_algorithms, which imports a compiler for .8 s
    torch.set_num_threads(config.threads)
    out.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(repr((list(data), schema, config)).encode()).hexdigest()[:16]
    folder = out / f".shards-{key}"
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    try:
        return _train(data, schema, config, out, folder, progress, say, requirements, init_from, compare, tuning)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _train(
    data: Sequence[str],
    schema: FeatureSchema,
    config: LearnerConfig,
    out: Path,
    folder: Path,
    progress: Progress,
    say: Say,
    requirements: Sequence[Requirement],
    init_from: Path | None,
    compare: Path | None,
    tuning: Tuning | None,
) -> TrainResult:
    started = time.monotonic()
    artifact, champion = (None if path is None else load_artifact(path.resolve()) for path in (init_from, compare))
    if artifact is not None and artifact.manifest.model != config.model:
        raise TrainingError(f"--init-from: the artifact has a model of other sizes: {artifact.manifest.model}")
    prepared = prepare(data, schema, config.seed, config.shard_rows, folder, say, artifact, champion)
    if tuning is not None:
        tuned = tune(prepared, config, tuning.seconds, tuning.progress)
        config = tuned.config
        for line in tuned.lines():
            say(line)
    learnt = learn_and_stop(prepared, config, out, progress, say)
    validation = prepared.held_out["validation"].part.load()
    logits = score_rows(Predictor(learnt.head.frozen(), Calibration()), validation.rows, learnt.table)
    calibration = fit_calibration(logits, validation.labels, schema.negatives_kept)
    final, counts = learnt, prepared.counts
    if config.refit:
        final, counts = refit(prepared, config, learnt, calibration, out, progress, say)
    for stage in Stage:
        checkpoint_of(prepared, config, out, stage).unlink(missing_ok=True)
    measured, served = (_scorer(prepared, model, calibration) for model in (learnt, final))
    say(f"calibration: {calibration.method}; writing the report")
    created = datetime.now(UTC).replace(microsecond=0)
    model_version = f"{created:%Y%m%dT%H%M%S}-{hashlib.sha256(served.table.tobytes()).hexdigest()[:8]}"
    environment = environment_of(learnt, time.monotonic() - started)
    report = assess(prepared, learnt, measured, served, config, model_version, created.isoformat(), environment)
    metrics, baseline, champion_metrics = metrics_of(report)
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        model_version=model_version,
        created=created.isoformat(),
        model=config.model,
        table_rows=prepared.encoder.num_rows,
        training=config.model_dump(mode="json") | _ancestry(prepared),
        data=prepared.facts,
        metrics={name: m.model_dump() for name, m in metrics.items()},
        environment=environment,
        scores=score_reference(report.parts[-1].probabilities, schema.negatives_kept),
        files={},
    )
    directory = _write(out, manifest, prepared, final, served.predictor, counts, report)
    size = sum(path.stat().st_size for path in directory.iterdir())
    missed = failures(requirements, report.parts[-1].metrics)
    if not missed:
        set_current(out, model_version)
    return TrainResult(
        directory, manifest, metrics, baseline, champion_metrics, learnt, missed, peak_memory_bytes(), size
    )


def _scorer(prepared: Prepared, model: Learnt, calibration: Calibration) -> Scorer:
    # As it will serve, to the last bit: the report is of what answers.
    head = model.head.frozen(model.table, prepared.encoder.single_fields())
    return Scorer(Predictor(head, calibration), model.table)


def _ancestry(prepared: Prepared) -> dict[str, str | int]:
    before = prepared.inheritance
    return {} if before is None else {"init_from": before.model_version, ROWS_BEFORE: before.num_rows}


def _write(
    out: Path,
    manifest: Manifest,
    prepared: Prepared,
    learnt: Learnt,
    predictor: Predictor,
    counts: NDArray[np.int64],
    report: ReportData,
) -> Path:
    encoder = prepared.encoder
    golden = make_golden(encoder, predictor, learnt.table, prepared.golden)
    texts = {
        "schema.json": encoder.schema.model_dump_json(),
        "calibration.json": predictor.calibration.model_dump_json(),
        "golden.json": golden.model_dump_json(),
        "report.html": render_report(report),
        "model_card.md": render_model_card(report),
    }
    if prepared.inheritance is not None:
        counts = prepared.inheritance.with_counts(counts)
    vocabularies = {
        f"{name}.{part}": array for name, v in encoder.vocabularies.items() for part, array in v.arrays.items()
    }
    tensors: dict[str, Tensors] = {
        "vocabularies.safetensors": vocabularies,
        "embeddings.safetensors": {"rows": learnt.table, "counts": counts},
        "head.safetensors": {key: value.numpy() for key, value in learnt.head.state_dict().items()},
    }
    return write_artifact(out, manifest, texts, tensors)
