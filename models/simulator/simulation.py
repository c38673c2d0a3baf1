"""Writes a seeded ad log with known click probabilities: ``python -m models.simulator --rows 200000 --out logs/``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Self, cast, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.errors import LogError
from models.evaluation.metrics import auc, log_loss
from models.schema.feature_schema import dump_schema
from models.simulator.log_schema import COMMENTS, SCHEMA
from models.simulator.market import Traffic, simulate_days
from models.simulator.population import generator

Format = Literal["parquet", "csv"]
MAX_AUC_ROWS = 2_000_000


class BayesScore(NamedTuple):
    """Metrics of the true probabilities; no model can expect better ones.

    Args:
        rows: number of impressions.
        clicks: number of clicks.
        log_loss: in nats per impression.
        auc: ``None`` with one class only; of a sample of at most two million rows.
    """

    rows: int
    clicks: int
    log_loss: float
    auc: float | None

    @classmethod
    def of(cls, probabilities: NDArray[np.float64], clicks: NDArray[np.int8]) -> Self:
        """Score true probabilities against the simulated clicks, 0 or 1, both [rows]."""
        step = -(-len(clicks) // MAX_AUC_ROWS)
        area = auc(clicks[::step], probabilities[::step])
        return cls(len(clicks), int(clicks.sum()), log_loss(clicks, probabilities), area)


def write_log(
    traffic: Traffic, out: Path, file_format: Format = "parquet", negatives_kept: float = 1.0
) -> tuple[BayesScore, BayesScore]:
    """Write ``impressions-<day>``, ``truth-<day>`` (the same rows in the same order) and ``schema.toml`` to ``out``.

    Return the scores of all days and of the last day, over all traffic, before any non-click is dropped; ``truth`` holds the
    probabilities in that traffic, too. In CSV a list is its tokens separated by ``|``.

    Raises:
        LogError: ``out`` already holds a log, or cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        present = sorted(p.name for pattern in ("impressions-*", "truth-*", "schema.toml") for p in out.glob(pattern))
        if present:
            raise LogError(f"{out}: already holds {present[0]!r}; expected a directory without a log")
        truths, clicks = [], []
        for number, day in enumerate(simulate_days(traffic)):
            click = day.impressions["click"].to_numpy()
            truths.append(day.true_probability)
            clicks.append(click)
            # A random stream of its own: the log with fewer non-clicks is a subset of the log with all of them.
            is_kept = generator(traffic.seed, number, 1).random(len(click)) < negatives_kept
            truth = pl.DataFrame({"true_probability": day.true_probability})
            for name, frame in (("impressions", day.impressions), ("truth", truth)):
                kept = frame if negatives_kept == 1.0 else frame.filter((click == 1) | is_kept)
                _write(kept, out / f"{name}-{day.day.isoformat()}.{file_format}", file_format)
        schema = SCHEMA.model_copy(update={"negatives_kept": negatives_kept})
        (out / "schema.toml").write_text(dump_schema(schema, COMMENTS), encoding="utf-8")
    except OSError as error:
        raise LogError(f"{out}: cannot be written: {error.strerror}") from error
    return BayesScore.of(np.concatenate(truths), np.concatenate(clicks)), BayesScore.of(truths[-1], clicks[-1])


def _write(frame: pl.DataFrame, path: Path, file_format: Format) -> None:
    if file_format == "parquet":
        frame.write_parquet(path, compression_level=1)
        return
    lists = [name for name, dtype in frame.schema.items() if dtype == pl.List]
    frame.with_columns(pl.col(lists).cast(pl.List(pl.String)).list.join("|")).write_csv(path)


def _text(area: float | None) -> str:
    return "–" if area is None else f"{area:.4f}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m models.simulator", description="Write a seeded ad log with known click probabilities."
    )
    parser.add_argument("--rows", type=int, default=200_000, help="impressions before any are dropped (default 200000)")
    parser.add_argument("--days", type=int, default=10, help="one file each (default 10)")
    parser.add_argument("--seed", type=int, default=7, help="same seed and options, same log (default 7)")
    parser.add_argument("--users", type=int, help="users there are (default: one per 40 rows)")
    parser.add_argument("--ads", type=int, help="ads running at one time (default: one per 400 rows)")
    parser.add_argument("--base-rate", type=float, default=0.05, help="mean click probability (default 0.05)")
    parser.add_argument(
        "--negatives-kept", type=float, default=1.0, help="share of non-clicks to keep, at random (default 1)"
    )
    parser.add_argument("--format", choices=get_args(Format), default="parquet")
    parser.add_argument("--out", type=Path, required=True, help="directory for the files; must not hold a log yet")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exit with status 2 for bad options and unusable directories."""
    parser = _parser()
    options = parser.parse_args(arguments)
    file_format = cast("Format", options.format)
    users = max(20, options.rows // 40) if options.users is None else options.users
    ads = max(20, options.rows // 400) if options.ads is None else options.ads
    for is_valid, message in (
        (1 <= options.days <= options.rows, "--days: expected at least 1 and at most --rows"),
        (options.seed >= 0, "--seed: expected 0 or more"),
        (users >= 1, "--users: expected 1 or more"),
        (ads >= 1, "--ads: expected 1 or more"),
        (0.0 < options.base_rate <= 0.5, "--base-rate: expected more than 0 and at most 0.5"),
        (0.0 < options.negatives_kept <= 1.0, "--negatives-kept: expected more than 0 and at most 1"),
    ):
        if not is_valid:
            parser.error(message)
    traffic = Traffic(options.rows, options.days, options.seed, users, ads, options.base_rate)
    try:
        total, last = write_log(traffic, options.out, file_format, options.negatives_kept)
    except LogError as error:
        parser.error(str(error))
    files = f"{options.out}/impressions-*.{file_format}"
    lines = [
        f"{total.rows:,} impressions, {total.clicks:,} clicks, {users:,} users, about {ads:,} ads at a time",
        "Bayes-optimal, over all traffic (no model can expect better):",
        *(
            f"  {name}  log loss {s.log_loss:.5f}  AUC {_text(s.auc)}"
            for name, s in (("all days", total), ("last day", last))
        ),
        f"log: {files}, its schema: {options.out}/schema.toml",
        f"true probabilities, row by row: {options.out}/truth-*.{file_format}",
        "next:",
        f"  python -m models.train --data '{files}' --schema {options.out}/schema.toml --out artifacts",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
