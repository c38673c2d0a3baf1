"""Scores the held-out parts of a log with the finished predictor and with the baselines, for manifest and report."""

from __future__ import annotations

import platform
import resource
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from models.baseline import fit_logistic_regression
from models.calibration import Calibration, sigmoid
from models.encoding import EncodedBatch, FeatureEncoder
from models.epochs import Examples, Learnt
from models.impressions import Log, Parts
from models.learner import LearnerConfig
from models.manifest import DataFacts
from models.metrics import Metrics
from models.predictor import Predictor
from models.report import FieldFacts, ReportData, Scored
from models.schema import FeatureSchema, FieldSpec

LIBRARIES = ("torch", "numpy", "polars", "scikit-learn", "pydantic", "safetensors")


@dataclass(frozen=True)
class Prepared:
    """A log ready to learn from: all its rows encoded, labels float32 [B], and which rows belong to which part."""

    log: Log
    schema: FeatureSchema
    parts: Parts
    encoder: FeatureEncoder
    batch: EncodedBatch
    labels: NDArray[np.float32]

    def examples(self, rows: NDArray[np.int64]) -> Examples:
        """Return some rows as examples."""
        return Examples(self.batch.take(rows), self.labels[rows])


def assess(
    prepared: Prepared,
    learnt: Learnt,
    predictor: Predictor,
    config: LearnerConfig,
    facts: DataFacts,
    model_version: str,
    created: str,
    environment: Mapping[str, str],
) -> ReportData:
    """Return everything the report says; ``validation.metrics`` and ``test.metrics`` are the manifest's too."""
    train = prepared.examples(prepared.parts.train)
    baseline = fit_logistic_regression(train.batch, train.labels, prepared.encoder.num_rows, seed=config.seed)
    constant = float(train.labels.mean())

    def score(name: str, rows: NDArray[np.int64]) -> Scored:
        batch, frame = prepared.batch.take(rows), prepared.log.frame[rows]
        logits = predictor.score_table(batch, learnt.table)
        group = prepared.schema.group
        return Scored(
            name=name,
            labels=prepared.labels[rows],
            probabilities=predictor.calibration.of_log(logits),
            raw_probabilities=sigmoid(logits.astype(np.float64)),
            constant=constant,
            baseline_probabilities=baseline.probabilities(batch),
            groups=None if group is None else _codes(frame[group]),
            segments={s: frame[s].fill_null("(missing)").to_list() for s in prepared.schema.segments},
        )

    return ReportData(
        model_version=model_version,
        created=created,
        label=prepared.schema.label,
        data=facts,
        validation=score("validation", prepared.parts.validation),
        test=score("test", prepared.parts.test) if len(prepared.parts.test) else None,
        history=learnt.history,
        best_epoch=learnt.best_epoch,
        fields=_field_facts(prepared),
        calibration=_describe(predictor.calibration),
        config=config.model_dump(mode="json"),
        environment=environment,
    )


def metrics_of(report: ReportData) -> tuple[dict[str, Metrics], dict[str, Metrics]]:
    """Return the metrics of the model and of the logistic regression, by part."""
    baselines = {part.name: part.baseline_metrics for part in report.parts}
    return {part.name: part.metrics for part in report.parts}, {
        name: m for name, m in baselines.items() if m is not None
    }


def environment_of(learnt: Learnt, seconds: float) -> dict[str, str]:
    """Return versions, threads, speed and memory of this run, as text."""
    return {
        "python": platform.python_version(),
        **{library: version(library) for library in LIBRARIES},
        "threads": str(torch.get_num_threads()),
        "seconds": f"{seconds:.1f}",
        "rows_per_s": f"{np.median([e.rows_per_s for e in learnt.history]):.0f}",
        "peak_memory_mib": f"{peak_memory_bytes() / 2**20:.0f}",
    }


def peak_memory_bytes() -> int:
    """Return the most memory that this process has had resident."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _field_facts(prepared: Prepared) -> list[FieldFacts]:
    encoder, parts = prepared.encoder, {"validation": prepared.parts.validation, "test": prepared.parts.test}
    entries = {name: prepared.batch.take(rows) for name, rows in parts.items() if len(rows)}
    unseen = {name: encoder.count_special(batch)[1] / _num_values(batch) for name, batch in entries.items()}
    train = prepared.batch.take(prepared.parts.train)
    missing = encoder.count_special(train)[0] / len(train)
    facts = []
    for i, field in enumerate(prepared.schema.fields):
        tokens = encoder.schema.num_tokens[field.block]
        own = field.block == field.name
        facts.append(
            FieldFacts(
                name=field.name,
                kind=field.kind,
                side=field.side,
                encoding=_encoding(field),
                num_values=None if field.buckets else tokens,
                num_rows=tokens + 2 if own else 0,
                missing=float(missing[i]),
                # A hashed field has a row for every token, and a number always a bin.
                unseen={}
                if field.buckets or field.kind == "numeric"
                else {name: float(u[i]) for name, u in unseen.items()},
            )
        )
    return facts


def _num_values(batch: EncodedBatch) -> NDArray[np.int64]:
    sums: NDArray[np.int64] = np.diff(batch.offsets).reshape(-1, batch.num_fields).sum(axis=0)
    return sums


def _encoding(field: FieldSpec) -> str:
    if field.kind == "numeric":
        return f"{field.bins} quantile bins"
    if field.vocabulary is not None:
        return f"shares {field.vocabulary}"
    if field.buckets is not None:
        return f"hashed into {field.buckets:,} rows"
    return "every token seen" if field.min_count == 1 else f"tokens seen {field.min_count} times or more"


def _describe(calibration: Calibration) -> str:
    how = {
        "identity": "None: σ(logit).",
        "platt": f"Platt scaling, fitted on the validation part: p = σ({calibration.slope:.4f}·logit {calibration.intercept:+.4f}).",
        "isotonic": f"Isotonic regression, fitted on the validation part, {len(calibration.logits)} points.",
    }[calibration.method]
    if calibration.negatives_kept == 1.0:
        return how
    kept = f"{calibration.negatives_kept:g}"
    return f"{how} The log keeps {kept} of the non-clicks: figures here are of the log as it is, the service multiplies odds by {kept}."


def _codes(series: pl.Series) -> NDArray[np.int64]:
    codes: NDArray[np.int64] = series.rank("dense").fill_null(0).cast(pl.Int64).to_numpy()
    return codes
