"""Tuning stays within its time, uses validation alone, and never returns settings worse than the given ones."""

import builtins
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.artifact.artifact import load_artifact
from models.data.preparation import Prepared, prepare
from models.data.shards import Part
from models.errors import TrainingError
from models.network.head import DeepFMConfig
from models.schema.feature_schema import FeatureSchema
from models.train import main
from models.training.evidence import find_evidence
from models.training.fit_and_refit import make_step
from models.training.train_config import TrainConfig
from models.training.trainer import Trained, Trainer
from models.training.tuning import MIN_TRIALS, SEARCHED, tune
from tests.making import SCHEMA, current_artifact, make_log, train_command

CONFIG = TrainConfig(model=DeepFMConfig(embedding_dim=4, hidden=(8,)), epochs=2, batch_size=256)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("log")
    make_log(1_000).write_parquet(folder / "log.parquet")
    document = SCHEMA.model_dump(by_alias=True) | {"split": {"by_order": True}}
    return prepare(
        [str(folder / "log.parquet")],
        FeatureSchema.model_validate(document),
        7,
        10_000,
        folder / "shards",
        lambda _: None,
    )


def ticking(step: float) -> Callable[[], float]:
    now = -step

    def clock() -> float:
        nonlocal now
        now += step
        return now

    return clock


def loss_of(prepared: Prepared, config: TrainConfig) -> float:
    evidence = find_evidence(prepared, config, lambda _: None)
    trainer = Trainer(make_step(prepared, config, evidence), prepared.train, lambda *_: None)
    history = trainer.fit(prepared.held_out["validation"].part).history
    return min(epoch.validation_log_loss for epoch in history)


def test_the_best_is_what_its_settings_give_and_not_worse_than_the_given_ones(prepared: Prepared) -> None:
    told: list[tuple[float, int, float]] = []
    found = tune(prepared, CONFIG, 100, lambda *x: told.append(x), ticking(0.5))
    assert found.trials >= MIN_TRIALS
    assert found.given_log_loss == loss_of(prepared, CONFIG)
    assert found.log_loss == loss_of(prepared, found.config) <= found.given_log_loss
    assert found.config.model == CONFIG.model
    assert found.config.seed == CONFIG.seed
    assert sorted(found.importance) == sorted(SEARCHED)
    assert sum(found.importance.values()) == pytest.approx(1)
    begin, end = told[0], told[-1]
    assert list(begin)[1:] == [0, math.inf]
    assert list(end) == [100, found.trials, found.log_loss]
    lines = found.lines()
    assert f"{found.trials} trials, best validation log loss {found.log_loss:.4f}" in lines[0]
    assert lines[1].split()[0] == max(found.importance, key=lambda name: found.importance[name])
    again = tune(prepared, CONFIG, 100, lambda *_: None, ticking(0.5))
    assert again == found


def test_without_time_the_given_settings_are_tried_and_kept(prepared: Prepared) -> None:
    found = tune(prepared, CONFIG, 0.1, lambda *_: None, ticking(10))
    assert found.trials == 1
    assert found.config == CONFIG
    assert found.importance == {}
    assert all("explains" not in line for line in found.lines())


def test_given_settings_that_diverge_are_an_error_and_proposed_ones_only_a_failed_trial(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, fit = 0, Trainer.fit

    def diverging(trainer: Trainer, validation: Part) -> Trained:
        nonlocal calls
        calls += 1
        if calls % 2 == 0:
            raise TrainingError("the loss is not finite")
        return fit(trainer, validation)

    monkeypatch.setattr(Trainer, "fit", diverging)
    assert tune(prepared, CONFIG, 20, lambda *_: None, ticking(0.5)).trials < calls
    calls = 1
    with pytest.raises(TrainingError, match="not finite"):
        tune(prepared, CONFIG, 20, lambda *_: None, ticking(0.5))


def test_without_optuna_it_is_said_what_to_install(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *arguments: Any) -> Any:
        if name == "optuna":
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(TrainingError, match=r"pip install 'ctrserve\[tune\]'"):
        tune(prepared, CONFIG, 1, lambda *_: None)


def test_the_command_trains_with_what_was_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*train_command(tmp_path), "--tune", "1"]) == 0
    said = capsys.readouterr().err
    assert "tuning: 100% of 1 s" in said
    assert "trials, best validation log loss" in said
    (line,) = [line for line in said.splitlines() if line.startswith("  learning_rate ")]
    artifact = load_artifact(current_artifact(tmp_path / "out"))
    assert f"{artifact.manifest.training['learning_rate']:.4g}" == line.split()[1]
