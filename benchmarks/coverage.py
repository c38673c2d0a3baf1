"""``python -m benchmarks.coverage``: how often the interval of a probability holds the truth, on logs whose probabilities are known.

Simulates logs, trains on each with the defaults, and scores the last day, which training has not seen. An interval is that of the
log-odds, ± 1.645 standard errors: nominally 90 %. The promise is 85 % to 95 %, also where a value was seen fewer than 20 times.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.conditions import conditions, save
from models.artifact.artifact import Artifact, load_artifact
from models.artifact.golden import columns_of
from models.artifact.golden_rows import raw_rows
from models.explanation.explainer import LEVEL, Explainer
from models.explanation.uncertainty import PRIOR_SHARE, TEMPERING
from models.pipeline.log_to_artifact import train
from models.simulator.log_schema import SCHEMA
from models.simulator.market import Traffic, simulate_days
from models.training.train_config import TrainConfig

NUM_CHOSEN = 8
"""The constants were chosen on the first logs; the others were simulated when the constants stood."""
LOGS = (
    Traffic(rows=100_000, days=8, seed=1, users=5_000, ads=300),
    Traffic(rows=300_000, days=10, seed=2, users=5_000, ads=500),
    Traffic(rows=300_000, days=10, seed=3, users=20_000, ads=1_000),
    Traffic(rows=300_000, days=10, seed=4, users=5_000, ads=500, base_rate=0.2),
    Traffic(rows=1_000_000, days=10, seed=5, users=20_000, ads=1_000),
    Traffic(rows=200_000, days=7, seed=6, users=10_000, ads=500, base_rate=0.1),
    Traffic(rows=300_000, days=14, seed=7, users=3_000, ads=2_000, base_rate=0.03),
    Traffic(rows=500_000, days=10, seed=8, users=10_000, ads=500),
    Traffic(rows=150_000, days=7, seed=9, users=4_000, ads=400, base_rate=0.08),
    Traffic(rows=400_000, days=12, seed=10, users=15_000, ads=800, base_rate=0.04),
    Traffic(rows=600_000, days=10, seed=11, users=8_000, ads=1_500, base_rate=0.1),
)

RARE = 20

Floats = NDArray[np.float64]


def coverage(artifact: Artifact, impressions: pl.DataFrame, truth: Floats) -> dict[str, Any]:
    """Return the share of true probabilities inside their intervals: of all rows, and by what training knew of their values.

    Args:
        artifact: the model.
        impressions: rows that it has not seen.
        truth: their probabilities.
    """
    batch = artifact.encoder.encode(columns_of(artifact.schema, raw_rows(artifact.schema, impressions)))
    bounds = Explainer(artifact).intervals(batch)
    assert bounds is not None, "the artifact is of an earlier version"
    is_inside = (bounds[0] <= truth) & (truth <= bounds[1])
    single = [i for i, field in enumerate(artifact.encoder.fields) if field.spec.kind == "categorical"]
    ids = batch.ids[batch.offsets[:-1]].reshape(len(batch), -1)[:, single]
    is_unseen = ids == artifact.encoder.oov_rows[single]
    fewest = np.where(is_unseen, 0, artifact.counts[ids]).min(axis=1)
    groups = {
        "all": np.ones(len(batch), np.bool_),
        "an unseen value": fewest == 0,
        f"a value seen fewer than {RARE} times": fewest < RARE,
        f"a value seen 1 to {RARE - 1} times": (fewest > 0) & (fewest < RARE),
        "all values seen 1,000 times or more": fewest >= 1_000,
    }
    probabilities = artifact.predictor.probabilities(artifact.predictor.score_table(batch, artifact.table))
    errors = np.log(probabilities / (1 - probabilities)) - np.log(truth / (1 - truth))
    return {
        name: {
            "rows": int(rows.sum()),
            "covered": round(float(is_inside[rows].mean()), 4),
            "logit_rmse": round(float(np.sqrt(np.square(errors[rows]).mean())), 3),
        }
        for name, rows in groups.items()
        if rows.sum() >= 100
    }


def simulated(traffic: Traffic, root: Path) -> tuple[Artifact, pl.DataFrame, Floats]:
    """Simulate a log, train on all of its days but the last below ``root``, and return model, last day and truth."""
    *days, last = simulate_days(traffic)
    pl.concat([day.impressions for day in days]).write_parquet(root / "log.parquet")
    split = SCHEMA.split.model_copy(update={"test_fraction": 0.0})
    schema = SCHEMA.model_copy(update={"split": split})
    result = train(
        [str(root / "log.parquet")], schema, TrainConfig(), root / "artifacts", lambda *_: None, lambda _: None
    )
    return load_artifact(result.directory), last.impressions, last.true_probability


def main() -> None:
    """Measure and write ``results/coverage.json``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=__doc__)
    parser.add_argument("--fresh", action="store_true", help="leave out the logs that the constants were chosen on")
    options = parser.parse_args()
    result: dict[str, Any] = {
        **conditions(),
        "nominal": LEVEL,
        "prior_share": PRIOR_SHARE,
        "tempering": TEMPERING,
        "logs": [],
    }
    for traffic in LOGS[NUM_CHOSEN:] if options.fresh else LOGS:
        with tempfile.TemporaryDirectory(prefix="ctrserve-benchmark-") as directory:
            found = coverage(*simulated(traffic, Path(directory)))
        chose = traffic in LOGS[:NUM_CHOSEN]
        result["logs"].append({"traffic": asdict(traffic), "chose_the_constants": chose, "coverage": found})
        print(traffic)
        for name, group in found.items():
            print(f"  {group['covered']:.1%} of {group['rows']:,} rows with {name}, logit RMSE {group['logit_rmse']}")
    save("coverage", result)


if __name__ == "__main__":
    main()
