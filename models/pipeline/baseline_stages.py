"""Fits the baseline as the model is fitted: calibrated on the validation part, then again with that part's rows."""

from __future__ import annotations

from models.data.preparation import Prepared
from models.data.shards import deal
from models.evaluation.baseline import LogisticBaseline, fit_logistic_regression
from models.training.train_config import TrainConfig


def fit_baselines(prepared: Prepared, config: TrainConfig) -> dict[str, LogisticBaseline]:
    """Return the regression that scores each held-out part: the one of the test part has learnt the validation part too.

    Both are fitted on the first shard. Without a refit in ``config`` they are the same. The calibration is fitted once, on
    the validation part, and the second regression's level is moved as the model's is, see
    `models.training.fit_and_refit.refit`.
    """
    num_rows, part = prepared.encoder.num_rows, prepared.held_out["validation"].part
    train, validation = prepared.train[0].load(), part.load()
    fitted = fit_logistic_regression(train.rows, train.labels, num_rows, seed=config.seed)
    measured = served = fitted.calibrated(validation.rows, validation.labels)
    if config.refit:
        both = deal(prepared.train, part)[0].load()
        again = fit_logistic_regression(both.rows, both.labels, num_rows, seed=config.seed)
        served = again.levelled(measured, validation.rows)
    return {"validation": measured, "test": served}
