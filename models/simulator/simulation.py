"""Write a seeded ad log with known click probabilities: ``python -m models.simulator --rows 200000 --out logs/``.

Imports ``errors`` and the simulated market; for trying the product out, for benchmarks and for tests.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.errors import LogError
from models.simulator.log_schema import SCHEMA_TOML
from models.simulator.market import Traffic, simulate_days
from models.simulator.population import generator

Format = Literal["parquet", "csv"]


class BayesScore:
    """Log loss and AUC of the true probabilities, summed day by day: no model can expect to do better.

    AUC is read from a histogram of logits with bins of 0.005, within about 10^−5 of the exact one.

    >>> score = BayesScore()
    >>> score.add(np.array([0.1, 0.2, 0.6, 0.9]), np.array([0, 1, 0, 1]))
    >>> round(score.log_loss, 3), score.auc
    (0.684, 0.75)
    """

    def __init__(self) -> None:
        self.edges = np.linspace(-15.0, 15.0, 6_001)
        self.counts = np.zeros((2, len(self.edges) + 1), np.int64)  # non-clicks and clicks by logit
        self.total_loss = 0.0

    def add(self, p: NDArray[np.float64], click: NDArray[np.integer]) -> None:
        """Add rows: true probabilities in (0, 1) and what happened, 0 or 1; both [rows]."""
        self.total_loss -= float(np.log(np.where(click == 1, p, 1 - p)).sum())
        at = np.digitize(np.log(p) - np.log1p(-p), self.edges)
        for outcome in (0, 1):
            self.counts[outcome] += np.bincount(at[click == outcome], minlength=self.counts.shape[1])

    @property
    def rows(self) -> int:
        return int(self.counts.sum())

    @property
    def clicks(self) -> int:
        return int(self.counts[1].sum())

    @property
    def log_loss(self) -> float:
        """Mean negative log-likelihood of a row, in nats."""
        return self.total_loss / max(self.rows, 1)

    @property
    def auc(self) -> float:
        """Chance that a click has a higher probability than a non-click, ties by half; NaN if either is absent."""
        non_clicks, clicks = self.counts.astype(np.float64)
        below = np.cumsum(non_clicks) - 0.5 * non_clicks
        pairs = clicks.sum() * non_clicks.sum()
        return float((clicks * below).sum() / pairs) if pairs else float("nan")


def write_log(
    traffic: Traffic, out: Path, file_format: Format = "parquet", negatives_kept: float = 1.0
) -> list[BayesScore]:
    """Write ``impressions-<day>``, ``truth-<day>`` (row by row the same order) and ``schema.toml`` to ``out``.

    Returns each day's score over all its traffic, before any non-click is dropped. ``truth`` holds the probability in
    that traffic too. In CSV a list is its tokens separated by ``|``.

    Raises:
        LogError: ``out`` already holds a log, or cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        present = sorted(p.name for pattern in ("impressions-*", "truth-*", "schema.toml") for p in out.glob(pattern))
        if present:
            raise LogError(f"{out}: already holds {present[0]!r}; expected a directory without a log")
        scores = []
        for number, day in enumerate(simulate_days(traffic)):
            click = day.impressions["click"].to_numpy()
            scores.append(BayesScore())
            scores[-1].add(day.true_probability, click)
            # A stream of its own: the log with fewer non-clicks is a subset of the log with all of them.
            lucky = generator(traffic.seed, number, 1).random(len(click)) < negatives_kept
            truth = pl.DataFrame({"true_probability": day.true_probability})
            for name, frame in (("impressions", day.impressions), ("truth", truth)):
                kept = frame if negatives_kept == 1.0 else frame.filter((click == 1) | lucky)
                _write(kept, out / f"{name}-{day.day.isoformat()}.{file_format}", file_format)
        (out / "schema.toml").write_text(SCHEMA_TOML.format(negatives_kept=negatives_kept), encoding="utf-8")
    except OSError as error:
        raise LogError(f"{out}: cannot be written: {error.strerror}") from error
    return scores


def _write(frame: pl.DataFrame, path: Path, file_format: Format) -> None:
    if file_format == "parquet":
        frame.write_parquet(path, compression_level=1)
        return
    lists = [name for name, dtype in frame.schema.items() if dtype == pl.List]
    frame.with_columns(pl.col(lists).cast(pl.List(pl.String)).list.join("|")).write_csv(path)


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
    """Run the command line; bad options and unusable directories end with status 2."""
    parser = _parser()
    options = parser.parse_args(arguments)
    file_format = cast("Format", options.format)
    users = max(20, options.rows // 40) if options.users is None else options.users
    ads = max(20, options.rows // 400) if options.ads is None else options.ads
    for fits, message in (
        (1 <= options.days <= options.rows, "--days: expected at least 1 and at most --rows"),
        (options.seed >= 0, "--seed: expected 0 or more"),
        (users >= 1, "--users: expected 1 or more"),
        (ads >= 1, "--ads: expected 1 or more"),
        (0.0 < options.base_rate <= 0.5, "--base-rate: expected more than 0 and at most 0.5"),
        (0.0 < options.negatives_kept <= 1.0, "--negatives-kept: expected more than 0 and at most 1"),
    ):
        if not fits:
            parser.error(message)
    traffic = Traffic(options.rows, options.days, options.seed, users, ads, options.base_rate)
    try:
        scores = write_log(traffic, options.out, file_format, options.negatives_kept)
    except LogError as error:
        parser.error(str(error))
    total = BayesScore()
    for score in scores:
        total.counts += score.counts
        total.total_loss += score.total_loss
    files = f"{options.out}/impressions-*.{file_format}"
    lines = [
        f"{total.rows:,} impressions, {total.clicks:,} clicks, {users:,} users, about {ads:,} ads at a time",
        "Bayes-optimal, over all traffic (no model can expect to do better):",
        f"  all days  log loss {total.log_loss:.5f}  AUC {total.auc:.4f}",
        f"  last day  log loss {scores[-1].log_loss:.5f}  AUC {scores[-1].auc:.4f}",
        f"log: {files}, its schema: {options.out}/schema.toml",
        f"true probabilities, row by row: {options.out}/truth-*.{file_format}",
        "next:",
        f"  python -m models.train --data '{files}' --schema {options.out}/schema.toml --out artifacts",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
