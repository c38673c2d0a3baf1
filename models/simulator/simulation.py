"""Writes a seeded ad log with known click probabilities to files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.errors import LogError
from models.evaluation.metrics import auc, log_loss
from models.schema.toml_writing import dump_schema
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
        raise LogError(f"{out}: cannot be written: {error.strerror or error}") from error
    return BayesScore.of(np.concatenate(truths), np.concatenate(clicks)), BayesScore.of(truths[-1], clicks[-1])


def _write(frame: pl.DataFrame, path: Path, file_format: Format) -> None:
    if file_format == "parquet":
        frame.write_parquet(path, compression_level=1)
        return
    lists = [name for name, dtype in frame.schema.items() if dtype == pl.List]
    frame.with_columns(pl.col(lists).cast(pl.List(pl.String)).list.join("|")).write_csv(path)
