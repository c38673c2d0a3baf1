"""The whole offline path as one call: log → encoder → DeepFM → calibration → checked artifact. Prints nothing."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from models.artifact import set_current, write_artifact
from models.assessment import Prepared, assess, environment_of, metrics_of, peak_memory_bytes
from models.calibration import Calibration, fit_calibration
from models.epochs import Learnt, Progress, learn
from models.fitting import count_rows, encode_frame, fit_encoder
from models.golden import make_golden
from models.impressions import read_log, split_log
from models.learner import Learner, LearnerConfig, settle_untouched_rows
from models.manifest import FORMAT_VERSION, DataFacts, Manifest
from models.metrics import Metrics
from models.predictor import Predictor
from models.report import ReportData, render_model_card, render_report
from models.schema import FeatureSchema
from models.tensor_file import Tensors

Say = Callable[[str], None]


@dataclass(frozen=True)
class TrainResult:
    """What a training run left behind; metrics by part, ``validation`` and, where there is one, ``test``."""

    directory: Path
    manifest: Manifest
    metrics: Mapping[str, Metrics]
    baseline: Mapping[str, Metrics]
    learnt: Learnt
    peak_memory_bytes: int
    artifact_bytes: int


def train(
    data: Sequence[str], schema: FeatureSchema, config: LearnerConfig, out: Path, progress: Progress, say: Say
) -> TrainResult:
    """Train on a log, write an artifact below ``out`` and make it the current one.

    A killed run goes on from its last checkpoint when it is called again with the same data, schema and configuration.

    Args:
        data: paths or glob patterns.
        schema: what the columns mean.
        config: how to learn.
        out: directory of artifacts.
        progress: called after each batch.
        say: called with one line for each stage.

    Raises:
        LogError: the log cannot be read as the schema says.
        SchemaError: the split leaves a part empty.
        TrainingError: the loss is not finite.
    """
    started = time.monotonic()
    torch.use_deterministic_algorithms(mode=True)
    torch.set_num_threads(config.threads)
    prepared = prepare(data, schema, config.seed, say)
    facts = _data_facts(prepared)
    learnt = _learn(prepared, config, facts.digest, out, progress, say)
    validation = prepared.examples(prepared.parts.validation)
    logits = Predictor(learnt.head.frozen(), Calibration()).score_table(validation.batch, learnt.table)
    predictor = Predictor(learnt.head.frozen(), fit_calibration(logits, validation.labels, schema.negatives_kept))
    say(f"calibration: {predictor.calibration.method}; fitting the logistic-regression baseline")
    created = datetime.now(UTC).replace(microsecond=0)
    model_version = f"{created:%Y%m%dT%H%M%S}-{hashlib.sha256(learnt.table.tobytes()).hexdigest()[:8]}"
    environment = environment_of(learnt, time.monotonic() - started)
    report = assess(prepared, learnt, predictor, config, facts, model_version, created.isoformat(), environment)
    metrics, baseline = metrics_of(report)
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        model_version=model_version,
        created=created.isoformat(),
        model=config.model,
        table_rows=prepared.encoder.num_rows,
        training=config.model_dump(mode="json"),
        data=facts,
        metrics={name: m.model_dump() for name, m in metrics.items()},
        environment=environment,
        files={},
    )
    directory = _publish(out, manifest, prepared, learnt, predictor, report)
    size = sum(path.stat().st_size for path in directory.iterdir())
    return TrainResult(directory, manifest, metrics, baseline, learnt, peak_memory_bytes(), size)


def prepare(data: Sequence[str], schema: FeatureSchema, seed: int, say: Say) -> Prepared:
    """Read, split and encode a log; errors as in `train`."""
    log = read_log(data, schema)
    parts = split_log(log.frame, schema, seed)
    say(
        f"{log.frame.height:,} rows: {len(parts.train):,} train, {len(parts.validation):,} validation, {len(parts.test):,} test"
    )
    encoder = fit_encoder(log, schema, parts.train)
    say(f"{len(encoder.fields)} fields, {encoder.num_rows:,} table rows")
    batch = encode_frame(encoder, log.frame)
    return Prepared(log, schema, parts, encoder, batch, log.frame[schema.label].to_numpy().astype(np.float32))


def _learn(
    prepared: Prepared, config: LearnerConfig, data_digest: str, out: Path, progress: Progress, say: Say
) -> Learnt:
    train_examples = prepared.examples(prepared.parts.train)
    counts = count_rows(train_examples.batch, prepared.encoder.num_rows)
    learner = Learner(config, counts, prepared.encoder.oov_rows, train_examples.labels)
    out.mkdir(parents=True, exist_ok=True)
    run = data_digest + prepared.schema.model_dump_json() + config.model_dump_json()
    checkpoint = out / f".checkpoint-{hashlib.sha256(run.encode()).hexdigest()[:16]}.safetensors"
    if checkpoint.exists():
        say(f"going on from {checkpoint}")
    learnt = learn(learner, train_examples, prepared.examples(prepared.parts.validation), progress, checkpoint)
    say(f"best epoch: {learnt.best_epoch} of {len(learnt.history)}")
    seen = counts.copy()
    if config.id_dropout:  # which has trained the out-of-vocabulary rows
        seen[prepared.encoder.oov_rows] = np.maximum(seen[prepared.encoder.oov_rows], 1)
    return replace(learnt, table=settle_untouched_rows(learnt.table, seen, prepared.encoder.block_starts))


def _data_facts(prepared: Prepared) -> DataFacts:
    digest = hashlib.sha256()
    for array in (prepared.batch.ids, prepared.batch.offsets, prepared.labels):
        digest.update(array.tobytes())
    parts = {"train": prepared.parts.train, "validation": prepared.parts.validation, "test": prepared.parts.test}
    column, window = prepared.schema.split.column, {}
    if column is not None:
        values = prepared.log.frame[column]
        window = {
            name: (str(values[int(rows[0])]), str(values[int(rows[-1])])) for name, rows in parts.items() if len(rows)
        }
    return DataFacts(
        files=prepared.log.files,
        rows={name: len(rows) for name, rows in parts.items()},
        window=window,
        digest=digest.hexdigest(),
    )


def _publish(
    out: Path, manifest: Manifest, prepared: Prepared, learnt: Learnt, predictor: Predictor, report: ReportData
) -> Path:
    encoder = prepared.encoder
    held_out = prepared.parts.test if len(prepared.parts.test) else prepared.parts.validation
    golden = make_golden(encoder, predictor, learnt.table, prepared.log.frame[held_out])
    texts = {
        "schema.json": encoder.schema.model_dump_json(),
        "calibration.json": predictor.calibration.model_dump_json(),
        "golden.json": golden.model_dump_json(),
        "report.html": render_report(report),
        "model_card.md": render_model_card(report),
    }
    counts = count_rows(prepared.batch.take(prepared.parts.train), encoder.num_rows)
    vocabularies = {
        f"{name}.{part}": array for name, v in encoder.vocabularies.items() for part, array in v.arrays.items()
    }
    tensors: dict[str, Tensors] = {
        "vocabularies.safetensors": vocabularies,
        "embeddings.safetensors": {"rows": learnt.table, "counts": counts},
        "head.safetensors": {key: value.numpy() for key, value in learnt.head.state_dict().items()},
    }
    directory = write_artifact(out, manifest, texts, tensors)
    set_current(out, manifest.model_version)
    return directory
