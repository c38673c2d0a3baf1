from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from models.data.shards import Part
from models.errors import TrainingError
from models.network.head import DeepFMConfig
from models.training.fit_and_refit import settle_unseen_rows
from models.training.train_config import TrainConfig
from models.training.trainer import Trained, Trainer
from tests.models.training.making import CONFIG, make_examples, make_step


def stopping_after(num_calls: int | None) -> Callable[[int, int, int, float], None]:
    """Return a progress callback that kills the run when it is called for the last time."""
    calls = 0

    def progress(_epoch: int, _done: int, _total: int, _loss: float) -> None:
        nonlocal calls
        calls += 1
        if calls == num_calls:
            raise KeyboardInterrupt

    return progress


def make_trainer(config: TrainConfig, checkpoint: Path | None = None, stop_after: int | None = None) -> Trainer:
    train = make_examples(3_000, 1)
    return Trainer(make_step(config, train), [Part.of(train)], stopping_after(stop_after), checkpoint)


def fit(config: TrainConfig, checkpoint: Path | None = None, stop_after: int | None = None) -> Trained:
    return make_trainer(config, checkpoint, stop_after).fit(Part.of(make_examples(800, 2)))


def same(a: Trained, b: Trained) -> bool:
    heads = zip(a.head.state_dict().values(), b.head.state_dict().values(), strict=True)
    return a.table.tobytes() == b.table.tobytes() and all(torch.equal(x, y) for x, y in heads)


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("models.training.trainer.CHECKPOINT_EVERY_S", 0.0)  # after each batch
    return tmp_path / "checkpoint.safetensors"


def test_training_beats_the_constant_and_keeps_the_best_epoch() -> None:
    trained = fit(TrainConfig(model=DeepFMConfig(embedding_dim=4, hidden=(8,)), batch_size=64, epochs=8))
    y = make_examples(800, 2).labels
    constant = -np.mean(np.where(y == 1, np.log(y.mean()), np.log(1 - y.mean())))
    best = min(e.validation_log_loss for e in trained.history)
    assert best < 0.9 * constant
    assert trained.history[trained.best_epoch - 1].validation_log_loss == best


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not() -> None:
    first = fit(CONFIG)
    assert same(first, fit(CONFIG))
    assert not same(first, fit(CONFIG.model_copy(update={"seed": 8})))


@pytest.mark.parametrize("batches", [1, 30])
@pytest.mark.parametrize("compiled", [True, False])
def test_a_killed_run_goes_on_to_the_same_bytes(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, batches: int, *, compiled: bool
) -> None:
    if not compiled:
        monkeypatch.setattr("models.network.operators.native", None)
    whole = fit(CONFIG)
    with pytest.raises(KeyboardInterrupt):
        fit(CONFIG, checkpoint, stop_after=batches)
    resumed = fit(CONFIG, checkpoint)
    assert same(whole, resumed)
    assert [e.validation_log_loss for e in whole.history] == [e.validation_log_loss for e in resumed.history]
    again = fit(CONFIG, checkpoint, stop_after=1)  # a run that was over has nothing left to do
    assert same(whole, again)


@pytest.mark.parametrize("stop_after", [1, 20, 41])
def test_fitting_again_goes_on_to_the_same_bytes(checkpoint: Path, stop_after: int) -> None:
    whole = make_trainer(CONFIG).fit_again(2)
    with pytest.raises(KeyboardInterrupt):
        make_trainer(CONFIG, checkpoint, stop_after).fit_again(2)
    assert same(whole, make_trainer(CONFIG, checkpoint).fit_again(2))


def test_fitting_again_on_the_same_rows_gives_what_the_first_time_gave() -> None:
    trained = fit(CONFIG)
    again = make_trainer(CONFIG).fit_again(trained.best_epoch)
    assert again.table.tobytes() == trained.table.tobytes()


def test_training_stops_after_patience_and_keeps_the_best_epoch() -> None:
    trained = fit(CONFIG.model_copy(update={"learning_rate": 1.0, "dense_learning_rate": 0.1, "epochs": 30}))
    losses = [e.validation_log_loss for e in trained.history]
    assert len(losses) == trained.best_epoch + CONFIG.patience
    assert losses[trained.best_epoch - 1] == min(losses)


def test_a_loss_that_is_not_finite_ends_the_run_with_a_reason() -> None:
    with pytest.raises(TrainingError, match="not finite in epoch 1"):
        fit(CONFIG.model_copy(update={"dense_learning_rate": 1e30}))


def test_a_checkpoint_of_another_run_is_refused(checkpoint: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(CONFIG, checkpoint, stop_after=3)
    for model in (DeepFMConfig(embedding_dim=5), DeepFMConfig(embedding_dim=4, hidden=(8, 8))):
        with pytest.raises(TrainingError, match="not a checkpoint of this run"):
            fit(CONFIG.model_copy(update={"model": model}), checkpoint)


def test_rows_that_training_never_saw_become_their_blocks_weighted_mean() -> None:
    table = np.arange(12, dtype=np.float32).reshape(6, 2)
    counts = np.array([0, 1, 3, 0, 0, 0])
    settled = settle_unseen_rows(table, counts, np.array([0, 3]))
    assert settled[0].tolist() == [(2 + 3 * 4) / 4, (3 + 3 * 5) / 4]
    assert settled[1:].tolist() == table[1:].tolist()
