"""Searches for better training settings within a time, by the validation log loss: ``python -m models.train --tune SECONDS``.

Optuna (Akiba et al. 2019) proposes settings, `models.training.trainer` tries them. Needs the extra ``tune``; nothing else
imports optuna. Settings, best epoch and calibration are then all chosen on the validation part, so its figures become
optimistic; those of a test part do not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.data.preparation import Prepared
from models.errors import TrainingError
from models.training.evidence import find_evidence
from models.training.fit_and_refit import make_step
from models.training.train_config import TrainConfig, batch_size_of
from models.training.trainer import Trainer

if TYPE_CHECKING:
    import optuna

TuneProgress = Callable[[float, int, float], None]
"""Called with seconds gone, trials finished and the best validation log loss so far (inf before the first)."""


SEARCHED = (
    *("learning_rate", "dense_learning_rate", "embedding_variance"),
    *("field_dropout", "batch_size", "epochs"),
)
MIN_TRIALS = 8
"""With fewer, the importance of the settings is not estimated."""


@dataclass(frozen=True)
class Tuned:
    """What tuning found.

    Args:
        config: the best trial's.
        trials: how many were finished.
        log_loss: of the best trial, on validation, before calibration.
        given_log_loss: of the first trial, which has the settings that tuning was given.
        importance: share of the trials' variance that each setting explains, the largest first; empty with few trials.
    """

    config: TrainConfig
    trials: int
    log_loss: float
    given_log_loss: float
    importance: Mapping[str, float]

    def lines(self) -> list[str]:
        """Return the result as text, the most important setting first."""
        gain = self.given_log_loss - self.log_loss
        text = (
            f"{self.trials} trials, best validation log loss {self.log_loss:.4f}, {gain:.4f} below the given settings"
        )
        lines = [f"tuning: {text}"]
        for name in sorted(SEARCHED, key=lambda name: -self.importance.get(name, 0.0)):
            share = f"  explains {100 * self.importance[name]:.0f} % of the variance" if name in self.importance else ""
            lines.append(f"  {name:20} {getattr(self.config, name):<8.4g}{share}")
        return lines


class _OutOfTime(Exception):
    pass


def tune(
    prepared: Prepared,
    config: TrainConfig,
    seconds: float,
    progress: TuneProgress,
    clock: Callable[[], float] = time.monotonic,
) -> Tuned:
    """Train with proposed settings until ``seconds`` are over; return the best, which may be the given ones.

    The first trial has the given settings and is always finished; a later one is given up when time is over. So the number of
    trials depends on the machine; what each proposes depends on ``config.seed`` and the results before it.

    Args:
        prepared: a log ready to train on.
        config: where the search begins; the model's sizes and all settings that are not searched stay.
        seconds: for all trials together.
        progress: called after each batch.
        clock: in seconds.

    Raises:
        TrainingError: optuna is not installed, or the given settings give no finite loss.
    """
    try:
        import optuna
    except ImportError as error:
        raise TrainingError("--tune: needs optuna: pip install 'ctrserve[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    started = clock()
    batch_size = batch_size_of(config, len(prepared.labels))
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=config.seed))
    study.enqueue_trial({name: getattr(config, name) for name in SEARCHED} | {"batch_size": batch_size})
    validation = prepared.held_out["validation"].part
    evidence = find_evidence(prepared, config, lambda _: None)
    configs: list[TrainConfig] = []
    losses: list[float] = []

    def watch(_epoch: int, _done: int, _total: int, _loss: float) -> None:
        gone = clock() - started
        progress(min(gone, seconds), len(losses), min(losses, default=math.inf))
        if losses and gone > seconds:
            raise _OutOfTime

    while not losses or clock() - started < seconds:
        trial = study.ask()
        proposed = _propose(trial, config, batch_size)
        try:
            trained = Trainer(make_step(prepared, proposed, evidence), prepared.train, watch).fit(validation)
        except _OutOfTime:
            break
        except TrainingError:  # steps too large; with the given settings it is an error
            if not losses:
                raise
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            continue
        losses.append(min(epoch.validation_log_loss for epoch in trained.history))
        configs.append(proposed)
        study.tell(trial, losses[-1])
    progress(seconds, len(losses), min(losses))
    importance: Mapping[str, float] = {}
    if len(losses) >= MIN_TRIALS:
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=config.seed)
        importance = optuna.importance.get_param_importances(study, evaluator=evaluator)
    best = losses.index(min(losses))
    return Tuned(configs[best], len(losses), losses[best], losses[0], importance)


def _propose(trial: optuna.Trial, given: TrainConfig, batch_size: int) -> TrainConfig:
    # From ranges around the given settings.
    def near(name: str, factor: float) -> float:
        value: float = getattr(given, name)
        return trial.suggest_float(name, value / factor, value * factor, log=True)

    variance = near("embedding_variance", 8)
    return given.model_copy(
        update={
            "learning_rate": near("learning_rate", 6),
            "dense_learning_rate": near("dense_learning_rate", 6),
            "embedding_variance": variance,
            "init_std": given.init_std * math.sqrt(variance / given.embedding_variance),
            "field_dropout": trial.suggest_float("field_dropout", 0.0, max(0.4, given.field_dropout)),
            "batch_size": trial.suggest_categorical(
                "batch_size", sorted({max(batch_size // 2, 1), batch_size, 2 * batch_size})
            ),
            "epochs": trial.suggest_int("epochs", 1, max(6, given.epochs)),
        }
    )
