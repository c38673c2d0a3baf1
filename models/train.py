"""``python -m models.train``: parses options, prints, and calls `models.pipeline.log_to_artifact.train`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from pydantic import BaseModel, ValidationError
from tqdm import tqdm

from models.data.schema_inference import infer_schema
from models.errors import ModelsError
from models.evaluation.promotion_bounds import parse_requirements
from models.pipeline.log_to_artifact import TrainResult, Tuning, train
from models.schema.feature_schema import FeatureSchema, describe_validation_error, dump_schema, load_schema
from models.training.train_config import TrainConfig

PLAIN_EVERY_S = 10.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 2 after an error message of one line, or 3 when a requirement is not met."""
    arguments = vars(_parser().parse_args(argv))
    data, out, schema_path, label = (arguments.pop(k) for k in ("data", "out", "schema", "label"))
    required, init_from, compare, seconds = (arguments.pop(k) for k in ("require", "init_from", "compare", "tune"))
    patterns = [p for group in data for p in group]
    try:
        config, requirements = _config(arguments), parse_requirements(required)
        schema = load_schema(schema_path) if schema_path else _infer(patterns, label, out)
        progress = ProgressBar(config.epochs if seconds is None else None)  # unknown: tuning decides
        tuning = None if seconds is None else Tuning(seconds, TuningBar(seconds))
        result = train(patterns, schema, config, out, progress, progress.say, requirements, init_from, compare, tuning)
    except ModelsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command resumes from the last checkpoint", file=sys.stderr)
        return 130
    print(summary(result))
    for failure in result.failures:
        print(f"not served: {failure}", file=sys.stderr)
    return 3 if result.failures else 0


def summary(result: TrainResult) -> str:
    """Return the lines printed at the end of a run."""
    parts = result.report.parts
    shown = [(part.name, part.metrics) for part in parts]
    shown += [(f"{part.name} (LR)", m) for part in parts if (m := part.baseline_metrics) is not None]
    shown += [(f"{part.name} (champion)", m) for part in parts if (m := part.champion_metrics) is not None]
    lines = [f"{'':21}{'rows':>9}{'log loss':>10}{'NE':>8}{'AUC':>8}{'GAUC':>8}{'Σp/Σy':>8}{'ECE':>8}"]
    for name, m in shown:
        auc, gauc = (f"{x:8.4f}" if x is not None else f"{'–':>8}" for x in (m.auc, m.gauc))
        losses = f"{m.log_loss:>10.4f}{m.normalized_entropy:>8.4f}"
        lines.append(f"{name:21}{m.rows:>9}{losses}{auc}{gauc}{m.calibration:>8.4f}{m.ece:>8.4f}")
    state = "not current" if result.failures else "now current"
    size, peak = result.artifact_bytes / 2**20, result.peak_memory_bytes / 2**20
    lines += [
        f"artifact  {result.directory} ({size:.1f} MiB), {state}; peak memory {peak:.0f} MiB",
        f"report    {result.directory / 'report.html'}",
        *([] if result.failures else [f"serve it  CTR_ARTIFACTS={result.directory.parent} python -m app"]),
    ]
    return "\n".join(lines)


class ProgressBar:
    """Shows rows/s and remaining time on a terminal; elsewhere prints a line every ten seconds."""

    def __init__(self, epochs: int | None) -> None:
        self._of_all = "" if epochs is None else f"/{epochs}"
        self._bar: tqdm[object] | None = None
        self._epoch = 0

    def __call__(self, epoch: int, done: int, total: int, loss: float) -> None:
        """Report progress, as `models.training.trainer.Progress`."""
        if epoch != self._epoch or self._bar is None:
            self.close()
            layout = "{desc}: {percentage:.0f}% of {total_fmt} rows, {rate_fmt}, {remaining} left{postfix}"
            self._bar = _make_bar(
                total, f"epoch {epoch}{self._of_all}", None if sys.stderr.isatty() else layout, unit="row"
            )
            self._epoch = epoch
        self._bar.set_postfix(log_loss=f"{loss:.4f}", refresh=False)
        self._bar.update(done - self._bar.n)
        if done == total:
            self.close()

    def say(self, line: str) -> None:
        """Print one line about a stage."""
        self.close()
        print(line, file=sys.stderr)

    def close(self) -> None:
        """Finish the current bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class TuningBar:
    """Shows the share of the tuning time that is over, and the best loss so far."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._bar: tqdm[object] | None = None
        self._is_over = False

    def __call__(self, gone: float, trials: int, best: float) -> None:
        """Report progress, as `models.training.tuning.TuneProgress`."""
        if self._is_over:
            return
        if self._bar is None:
            layout = "{desc}: {percentage:.0f}% of {total:.0f} s{postfix}"
            self._bar = _make_bar(self._seconds, "tuning", layout, unit="s")
        self._bar.set_postfix(trials=trials, best=f"{best:.4f}", refresh=False)
        self._bar.update(gone - self._bar.n)
        if gone >= self._seconds:
            self._bar.close()
            self._is_over = True


def _make_bar(total: float, title: str, layout: str | None, unit: str) -> tqdm[object]:
    # On a terminal the bar is redrawn in place, elsewhere each state is a line of its own.
    is_terminal = sys.stderr.isatty()
    ending = layout if layout is None or is_terminal else layout + "\n"
    every = 0.2 if is_terminal else PLAIN_EVERY_S
    return tqdm(
        total=total, desc=title, unit=unit, unit_scale=True, mininterval=every, bar_format=ending, file=sys.stderr
    )


def _infer(patterns: Sequence[str], label: str | None, out: Path) -> FeatureSchema:
    if label is None:
        raise ModelsError("give --schema FILE, or --label COLUMN to have a schema inferred")
    inferred = infer_schema(patterns, label)
    path = out / "schema.toml"
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(dump_schema(inferred.schema, inferred.reasons), encoding="utf-8")
    width = max(map(len, inferred.reasons))
    print(
        f"no schema given; inferred from the data and written to {path}, edit it and pass it with --schema:",
        file=sys.stderr,
    )
    for name, reason in inferred.reasons.items():
        print(f"  {name:{width}}  {reason}", file=sys.stderr)
    return inferred.schema


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m models.train", description="Train a DeepFM on a click log and write a checked artifact."
    )
    parser.add_argument(
        "--data",
        nargs="+",
        action="append",
        required=True,
        metavar="LOG",
        help="CSV, TSV or Parquet files, or glob patterns",
    )
    parser.add_argument("--schema", type=Path, metavar="FILE", help="feature schema, TOML")
    parser.add_argument("--label", metavar="COLUMN", help="without --schema: infer one that predicts this column")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("artifacts"),
        metavar="DIR",
        help="directory of artifacts (default: %(default)s)",
    )
    parser.add_argument(
        "--require",
        default="",
        metavar="BOUNDS",
        help="such as 'auc>=0.7,calibration<=1.03' on the test part: if one is missed, the artifact is written but "
        "does not become the current one, and the exit status is 3",
    )
    parser.add_argument(
        "--init-from",
        type=Path,
        metavar="ARTIFACT",
        help="warm start from this artifact: its tokens, bins and weights, and the tokens that the new log adds",
    )
    parser.add_argument(
        "--compare",
        type=Path,
        metavar="ARTIFACT",
        help="score the same held-out rows with this artifact too; the report gives the differences with intervals",
    )
    parser.add_argument(
        "--tune",
        type=float,
        metavar="SECONDS",
        help="search this long for better settings on the validation part, then train with the best (needs the "
        "extra 'tune')",
    )
    _add_options(parser, TrainConfig)
    return parser


def _add_options(parser: argparse.ArgumentParser, model: type[BaseModel]) -> None:
    for name, info in model.model_fields.items():
        default = info.default
        flag = f"--{name.replace('_', '-')}"
        text = f"{info.description or name} (default: %(default)s)"
        if isinstance(default, BaseModel):
            _add_options(parser, type(default))
        elif isinstance(default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=default, help=text)
        elif isinstance(default, tuple):
            parser.add_argument(flag, nargs="*", type=int, default=default, metavar="N", help=text)
        else:
            parser.add_argument(
                flag, type=type(default), default=default, choices=get_args(info.annotation) or None, help=text
            )


def _config(arguments: dict[str, object]) -> TrainConfig:
    own = {name: value for name, value in arguments.items() if name in TrainConfig.model_fields}
    model = {name: value for name, value in arguments.items() if name not in TrainConfig.model_fields}
    try:
        return TrainConfig.model_validate({**own, "model": model})
    except ValidationError as error:
        raise ModelsError(describe_validation_error(error)) from error


if __name__ == "__main__":
    sys.exit(main())
