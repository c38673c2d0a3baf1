"""The one-hot logistic regression as a careful person makes it: C and the weights of sequences chosen on the validation part."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from models.data.preparation import Prepared
from models.data.shards import Examples
from models.evaluation.baseline import fit_logistic_regression
from models.evaluation.metrics import Floats, log_loss
from models.features.packed_rows import PackedRows, join
from models.schema.feature_schema import Pooling

CS = (0.03, 0.1, 0.3, 1.0)
AS_IT_IS, CALIBRATED = "logistic", "logistic_platt"


def run_regression(prepared: Prepared) -> tuple[dict[str, Floats], dict[str, Floats], dict[str, Any]]:
    """Fit with each C and with tokens of sequences weighing 1/n and 1/√n, and take the best on validation.

    Returns:
        Probabilities of the test part by system, with and without a calibration on the validation part; the same after a refit with
        the validation rows, levelled as ctrserve is; and what was tried.
    """
    started, num_rows = time.perf_counter(), prepared.encoder.num_rows
    train, validation = prepared.train[0].load(), prepared.held_out["validation"].part.load()
    test = prepared.held_out["test"].part.load().rows
    poolings: tuple[Pooling, ...] = ("mean",) if train.rows.lengths is None else ("mean", "sqrtn")
    tried = []
    for pooling, c in product(poolings, CS):
        fitted = fit_logistic_regression(_pooled(train.rows, pooling), train.labels, num_rows, c)
        loss = log_loss(validation.labels, fitted.probabilities(_pooled(validation.rows, pooling)))
        print(f"logistic regression {pooling}, C {c}: validation {loss:.4f}", file=sys.stderr)
        tried.append((loss, pooling, c, fitted))
    _, pooling, c, best = min(tried, key=lambda t: t[0])
    held_out, tested = _pooled(validation.rows, pooling), _pooled(test, pooling)
    platt = best.calibrated(held_out, validation.labels)
    both = Examples(join([train.rows, validation.rows]), np.concatenate([train.labels, validation.labels]))
    again = fit_logistic_regression(_pooled(both.rows, pooling), both.labels, num_rows, c)
    about = {
        "setting": {"c": c, "pooling": pooling},
        "tried": [{"setting": {"c": t[2], "pooling": t[1]}, "validation_log_loss": t[0]} for t in tried],
        "seconds": [time.perf_counter() - started],
    }
    return (
        {AS_IT_IS: best.probabilities(tested), CALIBRATED: platt.probabilities(tested)},
        {AS_IT_IS: again.probabilities(tested), CALIBRATED: again.levelled(platt, held_out).probabilities(tested)},
        about,
    )


def _pooled(rows: PackedRows, pooling: Pooling) -> PackedRows:
    # A single value has the weight one either way.
    return replace(rows, poolings=(pooling,) * rows.num_fields)
