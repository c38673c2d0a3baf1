"""The command ``train``: parses options, prints, and calls `models.pipeline.log_to_artifact.train`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from models.command_line.interrupts import quiet_interrupts
from models.command_line.options import with_options
from models.errors import ModelsError
from models.training.train_config import TrainConfig

# Libraries of training are imported by the command, so that `--help` is quick and their absence is one line.
if TYPE_CHECKING:
    from models.pipeline.log_to_artifact import TrainResult
    from models.pipeline.mlflow_run import MlflowRun

LOG = "Log and artifact"
PANELS = {
    "Model": ("embedding_dim", "hidden", "dropout", "activation", "batch_norm"),
    "Learning": ("learning_rate", "dense_learning_rate", "batch_size", "epochs", "patience", "refit"),
    "Regularisation": (
        "weight_variance", "embedding_variance", "dense_l2", "field_dropout", "id_dropout", "init_std",
    ),
    "Machine": ("seed", "shard_rows", "device", "threads"),
}  # fmt: skip
METRICS_HEADER = f"{'':25}{'rows':>9}{'log loss':>10}{'NE':>8}{'AUC':>8}{'GAUC':>8}{'Σp/Σy':>8}{'ECE':>8}"
EXAMPLE = "Example: `ctrserve train --data 'logs/*.parquet' --label click --out artifacts`"


@with_options(TrainConfig, PANELS)
def train_command(
    *,
    data: Annotated[
        list[str],
        Option(metavar="LOG...", help="Files of the log, or glob patterns.", rich_help_panel=LOG),
    ],
    schema: Annotated[Path | None, Option(metavar="FILE", help="Feature schema, TOML.", rich_help_panel=LOG)] = None,
    label: Annotated[
        str | None,
        Option(
            metavar="COLUMN",
            help="Without --schema: infer a schema that predicts this column, and write it to DIR/schema.toml.",
            rich_help_panel=LOG,
        ),
    ] = None,
    test_fraction: Annotated[
        float | None,
        Option(
            metavar="X",
            help="Share of the rows, the last ones, in the test part; 0: train on everything, with the last part as "
            "validation (default: the schema's, else 0.1).",
            rich_help_panel=LOG,
        ),
    ] = None,
    out: Annotated[Path, Option(metavar="DIR", help="Directory of artifacts.", rich_help_panel=LOG)] = Path(
        "artifacts"
    ),
    require: Annotated[
        str | None,
        Option(
            metavar="BOUNDS",
            help="Such as 'auc>=0.7,calibration within 3%' on the test part. If one is missed, the artifact is written but "
            "does not become the current one, and the exit status is 3.",
            rich_help_panel=LOG,
        ),
    ] = None,
    init_from: Annotated[
        Path | None,
        Option(
            metavar="ARTIFACT",
            help="Warm start from this artifact: its tokens, bins and weights, and the tokens that the new log adds.",
            rich_help_panel=LOG,
        ),
    ] = None,
    compare: Annotated[
        Path | None,
        Option(
            metavar="ARTIFACT",
            help="Score the same held-out rows with this artifact too; the report gives the differences with intervals.",
            rich_help_panel=LOG,
        ),
    ] = None,
    tune: Annotated[
        float | None,
        Option(
            metavar="SECONDS",
            help="Search this long for better settings on the validation part, then train with the best (needs the extra "
            "'tune').",
            rich_help_panel=LOG,
        ),
    ] = None,
    mlflow: Annotated[
        str | None,
        Option(
            metavar="URI",
            help="Log parameters, metrics, the report and the artifact to this MLflow tracking server (needs the extra "
            "'mlflow').",
            rich_help_panel=LOG,
        ),
    ] = None,
    as_json: Annotated[bool, Option("--json", help="Print the result as JSON.", rich_help_panel=LOG)] = False,
    config: TrainConfig,
) -> int:
    """Train a DeepFM on a click log and write a checked artifact.

    Reads the log once, splits it by time where the schema names one, trains, calibrates, writes a report, and makes the
    artifact the one that is served. A run that was killed resumes when the same command is given again.
    """
    with quiet_interrupts():
        from models.evaluation.promotion_bounds import parse_requirements
        from models.pipeline.log_to_artifact import Tuning, train
        from models.pipeline.progress import ProgressBar, TuningBar
        from models.pipeline.schema_choice import schema_of, with_test_fraction

    requirements = () if require is None else parse_requirements(require)
    _make_directory(out)
    features = schema_of(schema, label, data, out / "schema.toml")
    if test_fraction is not None:
        features = with_test_fraction(features, test_fraction)
    schema_file = schema or out / "schema.toml"
    progress = ProgressBar(config.epochs if tune is None else None)  # unknown: tuning decides
    tuning = None if tune is None else Tuning(tune, TuningBar(tune))
    try:
        with _tracked(mlflow) as run:
            result = train(
                data,
                features,
                config,
                out,
                progress,
                progress.say,
                requirements,
                init_from,
                compare,
                tuning,
                schema_file,
            )
            if run is not None:
                run.log(result)
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the same command resumes from the last checkpoint\n")
        raise
    print(json.dumps(described(result), indent=2) if as_json else summary(result))
    for failure in result.failures:
        print(f"not served: {failure}", file=sys.stderr)
    return 3 if result.failures else 0


def _tracked(uri: str | None) -> AbstractContextManager[MlflowRun | None]:
    if uri is None:
        return nullcontext()
    from models.pipeline.mlflow_run import mlflow_run

    return mlflow_run(uri)


def summary(result: TrainResult) -> str:
    """Return the lines printed at the end of a run."""
    parts = result.report.parts
    shown = [(part.name, part.metrics) for part in parts]
    shown += [(f"{part.name} (LR)", m) for part in parts if (m := part.baseline_metrics) is not None]
    shown += [(f"{part.name} (champion)", m) for part in parts if (m := part.champion_metrics) is not None]
    lines = [METRICS_HEADER, *(metrics_line(name, m.model_dump()) for name, m in shown)]
    mean, low, high = parts[-1].ece_by_chance
    lines.append(f"ECE: true probabilities would show {mean:.4f} ({low:.4f} to {high:.4f}) on {parts[-1].name}")
    if any(part.baseline_metrics is not None for part in parts):
        treated = "refitted and calibrated" if result.report.config["refit"] else "calibrated"
        lines.append(f"LR: logistic regression on the same rows, {treated} as the model is")
    state = "not current" if result.failures else "now current"
    size, peak = result.artifact_bytes / 2**20, result.peak_memory_bytes / 2**20
    lines += [
        f"artifact  {result.directory} ({size:.1f} MiB), {state}; peak memory {peak:.0f} MiB",
        f"report    {result.directory / 'report.html'}",
        *([] if result.failures else [f"serve it  ctrserve serve --artifacts {result.directory.parent}"]),
    ]
    return "\n".join(lines)


def metrics_line(name: str, metrics: Mapping[str, float | int | None]) -> str:
    """Return one line below `METRICS_HEADER`; `models.evaluation.metrics.Metrics` has the names."""
    names = ("normalized_entropy", "auc", "gauc", "calibration", "ece")
    figures = [f"{'–':>8}" if (x := metrics[key]) is None else f"{x:8.4f}" for key in names]
    return f"{name:25}{metrics['rows']:>9}{metrics['log_loss']:>10.4f}{''.join(figures)}"


def described(result: TrainResult) -> dict[str, object]:
    """Return what `summary` tells, for machines."""
    return {
        "model_version": result.manifest.model_version,
        "artifact": str(result.directory),
        "current": not result.failures,
        "failures": list(result.failures),
        "metrics": {name: dict(metrics) for name, metrics in result.manifest.metrics.items()},
        "artifact_bytes": result.artifact_bytes,
        "peak_memory_bytes": result.peak_memory_bytes,
    }


def _make_directory(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ModelsError(f"--out: {out} is not a directory") from error
