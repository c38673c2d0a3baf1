"""Judge calibration by the true probabilities: ``python -m benchmarks.few_clicks [--clicks 50 500 5000] [--seeds 16]``.

For each number of clicks and seed, trains on a simulated log, fits each map on the validation part and scores the test part
by its expected log loss Σ −(t·ln p + (1 − t)·ln(1 − p)), where t is the true probability: it has no noise of the test's own
clicks. Each model's validation part is drawn four times, once as simulated. Prints a Markdown table and writes JSON.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import torch

from benchmarks.conditions import RESULTS, conditions, save
from benchmarks.markdown import table
from models.data.preparation import prepare
from models.errors import ModelsError
from models.evaluation.metrics import Floats
from models.network.calibration import Calibration, fit_calibration, fit_isotonic, fit_platt
from models.network.predictor import Predictor, score_rows
from models.schema.feature_schema import load_schema
from models.simulator.market import Traffic
from models.simulator.simulation import write_log
from models.training.fit_and_refit import fit
from models.training.train_config import TrainConfig

NUM_DRAWS = 4
MAPS: Mapping[str, Callable[[Floats, Floats], Calibration]] = {
    "shift": lambda z, y: fit_platt(z, y, slope_sd=1e-6, level_sd=1e3),
    "Platt": lambda z, y: fit_platt(z, y, slope_sd=1e3, level_sd=1e3),
    "isotonic": fit_isotonic,
    "ctrserve": fit_calibration,
}


class HeldOut(NamedTuple):
    """Logits and true probabilities of a part, and its clicks 0 or 1, float64 [B]."""

    logits: Floats
    truth: Floats
    labels: Floats


def main() -> None:
    """Run all models and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.few_clicks", description=__doc__)
    parser.add_argument("--clicks", type=int, nargs="+", default=[50, 150, 500, 1500, 5000], help="in the whole log")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.05, 0.005], help="mean click probabilities")
    parser.add_argument("--seeds", type=int, default=16, help="models of each size")
    parser.add_argument("--max-rows", type=int, default=300_000, help="larger logs are left out")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    before = conditions(seed=0)
    cases = []
    for rate in options.rates:
        for clicks in (n for n in options.clicks if n / rate <= options.max_rows):
            found = [gains_of_seed(round(clicks / rate), rate, seed) for seed in range(options.seeds)]
            gains = [g for g in found if g is not None]
            shown = {name: [1e5 * g[name] for g in gains] for name in gains[0]} if gains else {}
            errors = {n: float(np.std(v) / np.sqrt(max(len(v) - 1, 1))) for n, v in shown.items()}
            means = {n: {"mean": float(np.mean(v)), "error": errors[n]} for n, v in shown.items()}
            cases.append({"base_rate": rate, "clicks": clicks, "models": len(gains), "gains": means})
    print(markdown(cases))
    print(save("few_clicks", {**before, "unit": "1e-5 nats, minus the raw logits", "cases": cases}, options.out))


def gains_of_seed(rows: int, rate: float, seed: int) -> dict[str, float] | None:
    """Return each map's expected log loss on the test part minus that of the raw logits; ``None`` if no model is trained."""
    try:
        validation, test = train_one(rows, rate, seed)
    except ModelsError:  # a part without clicks
        return None
    raw, rng = expected_log_loss(test.truth, Calibration().of_log(test.logits)), np.random.default_rng(seed)
    draws: dict[str, list[float]] = {name: [] for name in MAPS}
    for k in range(NUM_DRAWS):
        y = validation.labels if k == 0 else (rng.random(len(validation.truth)) < validation.truth).astype(np.float64)
        for name, fit_map in MAPS.items():
            p = fit_map(validation.logits, y).of_log(test.logits)
            draws[name].append(expected_log_loss(test.truth, p) - raw)
    return {name: float(np.mean(values)) for name, values in draws.items()} | {
        "truth": expected_log_loss(test.truth, test.truth) - raw
    }


def expected_log_loss(truth: Floats, probabilities: Floats) -> float:
    """Return the mean log loss that clicks drawn from the true probabilities would give, in nats per impression."""
    p = np.clip(probabilities, 1e-7, 1 - 1e-7)
    return float(-(truth * np.log(p) + (1 - truth) * np.log1p(-p)).mean())


def train_one(rows: int, rate: float, seed: int) -> tuple[HeldOut, HeldOut]:
    """Simulate ten days, train with the defaults without a refit, and return validation and test part."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        traffic = Traffic(rows, 10, seed, users=max(20, rows // 40), ads=max(20, rows // 400), base_rate=rate)
        write_log(traffic, folder / "log")
        truth = pl.read_parquet(folder / "log" / "truth-*.parquet")["true_probability"].to_numpy()
        schema, data = load_schema(folder / "log" / "schema.toml"), [str(folder / "log" / "impressions-*.parquet")]
        prepared = prepare(data, schema, seed, rows + 1, folder / "shards", lambda _: None)
        config = TrainConfig(seed=seed, threads=1)
        model = fit(prepared, config, folder, lambda *_: None, lambda _: None)
        predictor, parts, end = Predictor(model.head.frozen(), Calibration()), [], len(truth)
        for part in ("test", "validation"):  # the last rows and those before; truth is in order of time too
            examples = prepared.held_out[part].part.load()
            logits = score_rows(predictor, examples.rows, model.table).astype(np.float64)
            start = end - len(logits)
            parts.append(HeldOut(logits, truth[start:end], examples.labels.astype(np.float64)))
            end = start
    return parts[1], parts[0]


def markdown(cases: list[dict[str, object]]) -> str:
    """Return the results as a table."""
    rows = []
    for case in cases:
        gains = case["gains"]
        assert isinstance(gains, dict)
        cells = [f"{g['mean']:+.0f} ± {g['error']:.0f}" for g in gains.values()]
        rows.append([f"{case['clicks']:,}", f"{case['base_rate']:.3g}", *cells])
    return table(["clicks in the log", "click rate", *MAPS, "the truth"], rows)


if __name__ == "__main__":
    main()
