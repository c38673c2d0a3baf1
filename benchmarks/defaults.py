"""Judge the defaults beside a logistic regression and LightGBM: ``python -m benchmarks.defaults --lightgbm PYTHON``.

Logs from 10,000 rows: simulated ones with ``--cases ROWS:CLICKS:NOISE``, where NOISE columns say nothing about the click, and
the first lines of Criteo's log with ``--criteo FILE``. ctrserve runs with its defaults, the regression is that of its report,
and LightGBM (in an environment with lightgbm and scikit-learn) takes the best of five settings on the validation part; all are
refitted with the validation rows and calibrated alike. The log loss is of the test part: the expected one by the simulator's
true probabilities, the observed one on a real log. A row that ends in "above" is one where ctrserve is worse than the better of
the other two by more than 0.0005. Prints a Markdown table and writes JSON. The whole grid:

    python -m benchmarks.defaults --lightgbm PYTHON --criteo FILE --seeds 1 2 3 --cases 50000:50:0 50000:500:0 50000:2500:0 \\
        50000:2500:100 200000:10000:0 200000:10000:100 2000000:50000:0 2000000:50000:100
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from benchmarks.accuracy.comparison import calibrated
from benchmarks.accuracy.export import export
from benchmarks.accuracy.inputs import save_inputs
from benchmarks.accuracy.peers import run_peer
from benchmarks.conditions import RESULTS, conditions, save
from benchmarks.few_clicks import expected_log_loss
from benchmarks.markdown import table
from models.evaluation.metrics import Floats
from models.pipeline.log_to_artifact import train
from models.schema.feature_schema import FeatureSchema, FieldSpec, load_schema
from models.simulator.market import Traffic
from models.simulator.simulation import write_log
from models.training.train_config import TrainConfig

CRITEO = Path(__file__).parents[1] / "examples" / "criteo.toml"
CASES = ("50000:50:0", "50000:500:0", "50000:2500:0", "50000:2500:100")
TOLERATED = 0.0005
NAMES = ("ctrserve", "logistic regression", "LightGBM")


class Log(NamedTuple):
    """A log's files, its schema, and the true probabilities of its rows in order of time, if they are known."""

    data: list[str]
    schema: FeatureSchema
    truth: Floats | None


def main() -> None:
    """Run all cases and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.defaults", description=__doc__)
    parser.add_argument("--lightgbm", type=Path, help="python of an environment with it; left out: not compared")
    parser.add_argument("--criteo", type=Path, help="train.txt of the Criteo challenge, or its first lines")
    parser.add_argument("--cases", nargs="*", default=list(CASES), metavar="ROWS:CLICKS:NOISE")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    before, found = conditions(seed=options.seeds[0]), []
    for case in ([] if options.criteo is None else ["Criteo"]) + options.cases:
        losses = []
        for seed in options.seeds:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                if case == "Criteo":
                    log = Log([str(options.criteo)], load_schema(CRITEO), None)
                else:
                    rows, clicks, noise = map(int, case.split(":"))
                    log = simulate(folder / "log", rows, clicks / rows, noise, seed)
                losses.append(run_case(log, folder, seed, options.lightgbm))
        found.append({"case": case, **described(losses)})
        print(markdown(found[-1:]), flush=True)
    print(markdown(found))
    print(save("defaults", {**before, "seeds": options.seeds, "cases": found}, options.out))


def simulate(folder: Path, rows: int, rate: float, noise: int, seed: int) -> Log:
    """Write ten days of a simulated log with further columns that say nothing: half are numbers, half have 10 to 1,000 tokens."""
    traffic = Traffic(rows, 10, seed, users=max(20, rows // 40), ads=max(20, rows // 400), base_rate=rate)
    write_log(traffic, folder)
    schema, rng = load_schema(folder / "schema.toml"), np.random.default_rng([seed, noise])
    for path in sorted(folder.glob("impressions-*.parquet")) if noise else []:
        frame = pl.read_parquet(path)
        numbers = [pl.Series(f"noise_{i}", rng.normal(size=frame.height)) for i in range(0, noise, 2)]
        sizes = (10, 100, 1_000)
        tokens = [pl.Series(f"noise_{i}", rng.integers(0, sizes[i % 3], frame.height)) for i in range(1, noise, 2)]
        frame.with_columns(*numbers, *tokens).write_parquet(path)
    added = [FieldSpec(name=f"noise_{i}", kind="categorical" if i % 2 else "numeric") for i in range(noise)]
    truth = pl.read_parquet(folder / "truth-*.parquet")["true_probability"].to_numpy()
    data = [str(folder / "impressions-*.parquet")]
    return Log(data, schema.model_copy(update={"fields": (*schema.fields, *added)}), truth)


def run_case(log: Log, folder: Path, seed: int, lightgbm: Path | None) -> dict[str, float]:
    """Return each system's log loss on the test part, and that of the truth if it is known."""
    result = train(
        log.data, log.schema, TrainConfig(seed=seed, threads=1), folder / "out", lambda *_: None, lambda _: None
    )
    test = result.report.test
    assert test is not None
    assert test.baseline_probabilities is not None
    predicted = dict(zip(NAMES, (test.probabilities, test.baseline_probabilities), strict=False))
    if lightgbm is not None:
        exported = export(log.data, log.schema, folder / "shards")
        save_inputs(folder, exported.inputs)
        about = run_peer("lightgbm", lightgbm, [seed], folder, None)
        if "error" in about:
            raise SystemExit(f"LightGBM: {about['error']}")
        validation, again = (np.load(folder / f"lightgbm-{seed}-{part}.npy") for part in ("validation", "refit"))
        predicted["LightGBM"] = calibrated(exported.inputs.parts["validation"].labels, validation, again)
    truth = test.labels.astype(np.float64) if log.truth is None else log.truth[-len(test.labels) :]
    losses = {name: expected_log_loss(truth, p) for name, p in predicted.items()}
    return losses if log.truth is None else losses | {"the truth": expected_log_loss(truth, truth)}


def described(losses: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Return means over seeds, and the mean of ctrserve's loss minus the better one of the others' with its standard error.

    >>> described([{"ctrserve": 0.3, "LightGBM": 0.2, "the truth": 0.1}])["minus_the_better"]
    0.1
    """
    others = [name for name in losses[0] if name in NAMES[1:]]
    means = {name: float(np.mean([loss[name] for loss in losses])) for name in losses[0]}
    better = min(others, key=lambda name: means[name])
    behind = np.array([loss[NAMES[0]] - loss[better] for loss in losses])
    error = float(behind.std(ddof=1) / np.sqrt(len(behind))) if len(behind) > 1 else None
    return {"log_loss": means, "better": better, "minus_the_better": round(float(behind.mean()), 9), "error": error}


def markdown(found: Sequence[dict[str, Any]]) -> str:
    """Return the results as a table."""
    rows = []
    for case in found:
        losses, behind = case["log_loss"], case["minus_the_better"]
        error = "" if case["error"] is None else f" ± {case['error']:.5f}"
        verdict = "above" if behind > TOLERATED else "within"
        shown = [f"{losses[name]:.5f}" if name in losses else "" for name in (*NAMES, "the truth")]
        rows.append([case["case"], *shown, f"{behind:+.5f}{error}", verdict])
    return table(["rows:clicks:noise columns", *NAMES, "the truth", "minus the better", "0.0005"], rows)


if __name__ == "__main__":
    main()
