"""Scores the held-out parts of a log with the finished model and the baseline, for the manifest and the report."""

from __future__ import annotations

import platform
import resource
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from models.artifact.manifest import ScoreReference
from models.data.part_encoder import HeldOut
from models.data.preparation import Prepared
from models.evaluation.cold_start import cold_starts
from models.evaluation.importance import permutation_importance, rows_used
from models.evaluation.metrics import Floats
from models.network.calibration import Calibration, sigmoid
from models.network.predictor import Predictor, score_rows
from models.report.conclusions import describe_calibration, describe_sampling
from models.report.field_facts import field_facts
from models.report.report_data import ReportData, Scored
from models.training.train_config import TrainConfig
from models.training.trainer import Trained

if TYPE_CHECKING:
    from models.evaluation.baseline import LogisticBaseline

LIBRARIES = ("torch", "numpy", "polars", "scikit-learn", "pydantic", "safetensors")


class Scorer(NamedTuple):
    """A model ready to score: its dense part and its table float32 [R, E+1]."""

    predictor: Predictor
    table: NDArray[np.float32]


def assess(
    prepared: Prepared,
    trained: Trained,
    measured: Scorer,
    served: Scorer,
    config: TrainConfig,
    model_version: str,
    created: str,
    options: Sequence[str],
    environment: Mapping[str, str],
) -> ReportData:
    """Return the data of the report.

    Args:
        prepared: the log.
        trained: with the history of the epochs.
        measured: the model that was not trained on the validation part, which it scores.
        served: the model of the artifact, which scores the test part; refitted with the validation part, or ``measured``.
        config: of the training.
        model_version: of the artifact.
        created: time of the artifact, ISO 8601.
        options: of the command, for `ReportData`.
        environment: from `environment_of`.
    """
    # After a warm start, a regression on the new rows alone is not a fair comparison.
    baselines = {} if prepared.inheritance is not None else _fit_baselines(prepared, config)
    scorers = {"validation": measured, "test": served}
    constant = float(prepared.labels.mean())

    def scored(name: str, held_out: HeldOut) -> Scored:
        examples = held_out.part.load()
        predictor, table = scorers[name]
        logits = score_rows(predictor, examples.rows, table)
        probabilities = predictor.calibration.of_log(logits)
        return Scored(
            name=name,
            labels=examples.labels,
            probabilities=probabilities,
            raw_probabilities=sigmoid(logits.astype(np.float64)),
            constant=constant,
            baseline_probabilities=baselines[name].probabilities(examples.rows) if baselines else None,
            groups=held_out.groups,
            segments={s: [values[c] for c in codes.tolist()] for s, (codes, values) in held_out.segments.items()},
            cold_starts=cold_starts(prepared.encoder, examples.rows, examples.labels, probabilities),
            champion=prepared.champion,
        )

    parts = {name: scored(name, held_out) for name, held_out in prepared.held_out.items()}
    last_name = list(parts)[-1]
    last, (predictor, table) = prepared.held_out[last_name].part.load(), scorers[last_name]
    names = [f.name for f in prepared.schema.fields]
    return ReportData(
        model_version=model_version,
        created=created,
        label=prepared.schema.label,
        options=options,
        data=prepared.facts,
        validation=parts["validation"],
        test=parts.get("test"),
        history=trained.history,
        best_epoch=trained.best_epoch,
        first_order_log_loss=trained.first_order_log_loss,
        fields=field_facts(prepared),
        calibration=_describe(served.predictor.calibration, refit=config.refit),
        config=config.model_dump(mode="json"),
        environment=environment,
        importance=permutation_importance(predictor, table, last.rows, last.labels, names, config.seed),
        importance_rows=rows_used(last.rows, table),
    )


def score_reference(probabilities: Floats, negatives_kept: float) -> ScoreReference:
    """Return the deciles of the probabilities that the service would answer for these rows.

    A service compares them with those of its own answers to detect drift.

    >>> score_reference(np.linspace(0, 1, 101)[1:-1], 1.0).edges[4]
    0.5
    """
    served = probabilities * negatives_kept / (probabilities * negatives_kept + 1 - probabilities)
    edges = np.unique(np.quantile(served, np.linspace(0, 1, 11)[1:-1]))
    shares = np.bincount(edges.searchsorted(served, side="right"), minlength=len(edges) + 1) / len(served)
    return ScoreReference(edges=tuple(edges.tolist()), shares=tuple(shares.tolist()))


def environment_of(trained: Trained, seconds: float) -> dict[str, str]:
    """Return versions, threads, speed and memory of this run as text."""
    return {
        "python": platform.python_version(),
        **{library: version(library) for library in LIBRARIES},
        "threads": str(torch.get_num_threads()),
        "seconds": f"{seconds:.1f}",
        "rows_per_s": f"{np.median([e.rows_per_s for e in trained.history]):.0f}",
        "peak_memory_mib": f"{peak_memory_bytes() / 2**20:.0f}",
    }


def peak_memory_bytes() -> int:
    """Return the largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _fit_baselines(prepared: Prepared, config: TrainConfig) -> Mapping[str, LogisticBaseline]:
    from models.pipeline.baseline_stages import fit_baselines  # importing scikit-learn takes half a second

    return fit_baselines(prepared, config)


def _describe(calibration: Calibration, *, refit: bool) -> str:
    how = describe_calibration(calibration)
    if refit:
        how += " Then the model was trained again with that part's rows too; the figures for that part are of the model before."
    return f"{how}{describe_sampling(calibration)}"
