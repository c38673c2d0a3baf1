"""Compare accuracy: ``python -m benchmarks.accuracy --log DIR --schema FILE --fuxictr PYTHON --deepctr PYTHON``.

Every system gets the same rows, split and columns, encoded once by ctrserve's encoder. A peer trains in a process of its
own environment (``pip install fuxictr==2.3.10 polars==1.35.2``, ``pip install deepctr-torch``, ``pip install lightgbm``),
tries several settings on the validation part with the first seed, takes the best for all seeds and predicts the test part.
ctrserve runs with its defaults, but without learning the validation rows. Writes one JSON file and prints Markdown tables.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.comparison import OURS, accuracy_table, calibrated, compare, difference_table
from benchmarks.accuracy.export import Exported, export
from benchmarks.accuracy.inputs import save_inputs
from benchmarks.conditions import RESULTS, conditions, save, versions
from models.artifact import load_artifact
from models.baseline import fit_logistic_regression
from models.fitting import encode_frame
from models.learner import LearnerConfig
from models.metrics import Floats
from models.schema import FeatureSchema, load_schema
from models.training import train

ROOT = Path(__file__).parents[2]
Predicted = dict[str, list[Floats]]


def main() -> None:
    """Run every system and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("--log", type=Path, required=True, help="directory of the log's Parquet files")
    parser.add_argument("--schema", type=Path, required=True, help="feature schema, split by a column")
    for name in ("fuxictr", "deepctr", "lightgbm"):
        parser.add_argument(
            f"--{name}", type=Path, help=f"python of an environment with {name}; left out: not compared"
        )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    schema, data = load_schema(options.schema), [str(options.log / "*.parquet")]
    before = conditions(seed=options.seeds[0])
    predicted: Predicted = {}
    peers: Predicted = {}  # on the validation part
    about: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        exported = export(data, schema, folder / "shards")
        save_inputs(folder, exported.inputs)
        predicted[OURS], about[OURS] = _ours(data, schema, exported, options.seeds, folder)
        predicted["logistic"], about["logistic"] = _logistic(exported)
        for peer in ("fuxictr", "deepctr", "lightgbm"):
            python = getattr(options, peer)
            if python is not None:
                about[peer] = _peer(peer, python, options.seeds, folder)
                if "error" not in about[peer]:
                    peers[peer], predicted[peer] = (
                        [np.load(folder / f"{peer}-{seed}-{part}.npy") for seed in options.seeds]
                        for part in ("validation", "test")
                    )
    validation, test = (exported.inputs.parts[part].labels for part in ("validation", "test"))
    recalibrated = {OURS: predicted[OURS]} | {
        peer: [calibrated(validation, v, t) for v, t in zip(seeds, predicted[peer], strict=True)]
        for peer, seeds in peers.items()
    }
    found = compare(test, predicted, exported.groups)
    found_calibrated = compare(test, recalibrated, exported.groups)
    document = {
        **before,
        "versions": before["versions"] | versions(("torch", "polars", "scikit-learn")),
        "seeds": options.seeds,
        "rows": exported.prepared.facts.rows,
        "window": exported.prepared.facts.window,
        "inputs_sha256": exported.prepared.facts.digest,
        "intervals": "95 %, 200 resamples of the test part's groups, the same for all; of the mean over seeds",
        "systems": {name: about[name] | {"test": found[name]} for name in found},
        "failed": {name: a for name, a in about.items() if name not in found},
        "peers_calibrated_on_validation": found_calibrated,
    }
    day = datetime.now(UTC)
    path = save(f"accuracy-{day:%Y%m%dT%H%M%S}", document, options.out)
    print(accuracy_table(found), difference_table(found), sep="\n\n")
    print("\nPeers after ctrserve's calibration step, fitted on their validation predictions:\n")
    print(accuracy_table(found_calibrated), difference_table(found_calibrated), sep="\n\n")
    print(path)


def _ours(
    data: list[str], schema: FeatureSchema, exported: Exported, seeds: list[int], folder: Path
) -> tuple[list[Floats], dict[str, Any]]:
    """Train with the default configuration and score the test rows, as they stand in the log, through each artifact."""
    predictions, validation, seconds = [], [], []
    for seed in seeds:
        started = time.perf_counter()
        config = LearnerConfig(seed=seed, refit=False)  # the peers do not learn the validation rows either
        result = train(data, schema, config, folder / "artifacts", lambda *_: None, lambda _: None)
        seconds.append(time.perf_counter() - started)
        validation.append(result.metrics["validation"].log_loss)
        artifact = load_artifact(result.directory)
        logits = artifact.predictor.score_table(encode_frame(artifact.encoder, exported.test), artifact.table)
        predictions.append(artifact.predictor.calibration.of_log(logits))
        print(f"ctrserve seed {seed}: validation {validation[-1]:.4f}, {seconds[-1]:.1f} s", file=sys.stderr)
    setting = LearnerConfig(refit=False).model_dump(mode="json", exclude={"seed"})
    return predictions, {"setting": setting, "seconds": seconds, "validation_log_loss_calibrated": validation}


def _logistic(exported: Exported) -> tuple[list[Floats], dict[str, Any]]:
    """Fit the logistic regression that every training report has; it has one optimum and no seed."""
    started = time.perf_counter()
    sample, prepared = exported.prepared.train[0].load(), exported.prepared
    baseline = fit_logistic_regression(sample.rows, sample.labels, prepared.encoder.num_rows)
    predictions = [baseline.probabilities(prepared.held_out["test"].part.load().rows)]
    return predictions, {"setting": {"c": 0.3}, "seconds": [time.perf_counter() - started]}


def _peer(name: str, python: Path, seeds: list[int], folder: Path) -> dict[str, Any]:
    """Run one peer in its environment; return what it says of itself, or its ``error``."""
    command = [str(python), "-m", f"benchmarks.accuracy.run_{name}", "--inputs", str(folder), "--out", str(folder)]
    command += ["--seeds", *map(str, seeds)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    lines = ran.stdout.strip().splitlines()
    if ran.returncode or not lines:
        return {"error": f"exit status {ran.returncode}"}
    result: dict[str, Any] = json.loads(lines[-1])  # a library may print before
    return result


if __name__ == "__main__":
    main()
