"""Compare accuracy: ``python -m benchmarks.accuracy --log DIR --schema FILE --fuxictr PYTHON --deepctr PYTHON``.

Every system gets the same rows, split and columns, encoded by ctrserve. A peer trains in a process of its own environment
(``pip install fuxictr==2.3.10 polars==1.35.2``, ``pip install deepctr-torch``, ``pip install lightgbm``). It tries several settings
on the validation part with the first seed, takes the best for all seeds and predicts the test part. ctrserve runs with its
defaults, and a logistic regression with settings chosen likewise (`benchmarks.accuracy.regression`). Since ctrserve is refitted with
the validation rows, it is compared twice: all systems without a refit, and all with one.
Writes one JSON file and prints Markdown tables.
"""

from __future__ import annotations

import argparse
import json
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
from benchmarks.accuracy.peers import run_peer
from benchmarks.accuracy.regression import run_regression
from benchmarks.conditions import RESULTS, conditions, save, versions
from models.artifact.artifact import load_artifact
from models.data.chunk_encoder import encode_frame
from models.evaluation.metrics import Floats
from models.pipeline.log_to_artifact import train
from models.schema.feature_schema import FeatureSchema, load_schema
from models.training.train_config import TrainConfig

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
    parser.add_argument("--chosen", type=Path, help="an earlier result, whose settings are taken")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    chosen = {} if options.chosen is None else json.loads(options.chosen.read_text())["systems"]
    schema, data = load_schema(options.schema), [str(options.log / "*.parquet")]
    before = conditions(seed=options.seeds[0])
    predicted: Predicted = {}
    refitted: Predicted = {}
    peers: Predicted = {}  # on the validation part
    about: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        exported = export(data, schema, folder / "shards")
        save_inputs(folder, exported.inputs)
        predicted[OURS], about[OURS] = _ours(data, schema, exported, options.seeds, folder, refit=False)
        refitted[OURS], about[OURS]["refit"] = _ours(data, schema, exported, options.seeds, folder, refit=True)
        first, again, regression = run_regression(exported.prepared)
        for system in first:
            predicted[system], refitted[system], about[system] = [first[system]], [again[system]], regression
        for peer in ("fuxictr", "deepctr", "lightgbm"):
            python = getattr(options, peer)
            if python is not None:
                about[peer] = run_peer(peer, python, options.seeds, folder, chosen.get(peer, {}).get("setting"))
                if "error" not in about[peer]:
                    peers[peer], predicted[peer], refitted[peer] = (
                        [np.load(folder / f"{peer}-{seed}-{part}.npy") for seed in options.seeds]
                        for part in ("validation", "test", "refit")
                    )
    validation, test = (exported.inputs.parts[part].labels for part in ("validation", "test"))

    def recalibrate(tested: Predicted) -> Predicted:
        return {
            name: [calibrated(validation, v, t) for v, t in zip(peers[name], seeds, strict=True)]
            if name in peers
            else seeds
            for name, seeds in tested.items()
        }

    found = compare(test, predicted, exported.groups)
    found_calibrated = compare(test, recalibrate(predicted), exported.groups)
    found_refitted = compare(test, recalibrate(refitted), exported.groups)
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
        "all_refitted_with_validation": found_refitted,
    }
    day = datetime.now(UTC)
    path = save(f"accuracy-{day:%Y%m%dT%H%M%S}", document, options.out)
    print(accuracy_table(found), difference_table(found), sep="\n\n")
    print("\nPeers after ctrserve's calibration step, fitted on their validation predictions:\n")
    print(accuracy_table(found_calibrated), difference_table(found_calibrated), sep="\n\n")
    print("\nThe same, all refitted with the validation rows, for the number of epochs that was best without them:\n")
    print(accuracy_table(found_refitted), difference_table(found_refitted), sep="\n\n")
    print(path)


def _ours(
    data: list[str], schema: FeatureSchema, exported: Exported, seeds: list[int], folder: Path, *, refit: bool
) -> tuple[list[Floats], dict[str, Any]]:
    """Train with the default configuration and score the canonical test rows with each artifact."""
    predictions, validation, seconds = [], [], []
    for seed in seeds:
        started = time.perf_counter()
        config = TrainConfig(seed=seed, refit=refit)
        result = train(data, schema, config, folder / "artifacts", lambda *_: None, lambda _: None)
        seconds.append(time.perf_counter() - started)
        validation.append(result.report.validation.metrics.log_loss)
        artifact = load_artifact(result.directory)
        logits = artifact.predictor.score_table(encode_frame(artifact.encoder, exported.test).unpack(), artifact.table)
        predictions.append(artifact.predictor.calibration.of_log(logits))
        print(f"ctrserve seed {seed}: validation {validation[-1]:.4f}, {seconds[-1]:.1f} s", file=sys.stderr)
    setting = TrainConfig(refit=refit).model_dump(mode="json", exclude={"seed"})
    return predictions, {"setting": setting, "seconds": seconds, "validation_log_loss_calibrated": validation}


if __name__ == "__main__":
    main()
