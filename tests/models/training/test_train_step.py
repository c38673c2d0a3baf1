from pathlib import Path

import numpy as np
import pytest
import torch

from models.data.shards import Examples, Part
from models.errors import TrainingError
from models.features.encoder import EncodedBatch, assemble
from models.features.field_encoder import Column
from models.features.packed_rows import PackedRows
from models.network.calibration import sigmoid
from models.network.deepfm import pool
from models.network.head import DeepFMConfig
from models.training.train_step import Learner, LearnerConfig, gradient_of_rows, lazy_decay, settle_untouched_rows
from models.training.trainer import Learnt, learn, relearn

R, F = 60, 3
OOV_ROWS = np.array([1, 21, 41])


def make_examples(n: int, seed: int) -> Examples:
    """Return impressions of two categorical fields and a sequence, whose clicks follow known first-order weights."""
    truth = np.random.default_rng(0).normal(size=R)
    rng = np.random.default_rng(seed)
    a, b = rng.integers(2, 20, n), rng.integers(22, 40, n)
    lengths = rng.integers(1, 4, n)
    batch = assemble([Column(a), Column(b), Column(rng.integers(42, 60, int(lengths.sum())), lengths)])
    labels = (rng.random(n) < sigmoid(truth[a] + truth[b])).astype(np.float32)
    return Examples(PackedRows.of(batch), labels)


def make_learner(config: LearnerConfig, examples: Examples) -> Learner:
    return Learner(config, np.bincount(examples.rows.ids, minlength=R), OOV_ROWS, examples.labels)


def run(config: LearnerConfig, checkpoint: Path | None = None, stop_after: int | None = None) -> Learnt:
    train, validation = make_examples(3_000, 1), make_examples(800, 2)
    calls = 0

    def progress(epoch: int, done: int, total: int, loss: float) -> None:
        nonlocal calls
        calls += 1
        if calls == stop_after:
            raise KeyboardInterrupt

    return learn(make_learner(config, train), [Part.of(train)], Part.of(validation), progress, checkpoint)


CONFIG = LearnerConfig(
    model=DeepFMConfig(embedding_dim=4, hidden=(8,), dropout=0.2), batch_size=128, epochs=4, id_dropout=0.05
)


def same(a: Learnt, b: Learnt) -> bool:
    heads = zip(a.head.state_dict().values(), b.head.state_dict().values(), strict=True)
    return a.table.tobytes() == b.table.tobytes() and all(torch.equal(x, y) for x, y in heads)


def test_the_gradient_of_the_rows_equals_autograds() -> None:
    batch = make_examples(50, 3).rows.unpack()
    index, weights, offsets = (
        torch.from_numpy(batch.ids),
        torch.from_numpy(batch.weights),
        torch.from_numpy(batch.offsets),
    )
    rows = torch.randn(R, 5, requires_grad=True)
    fields = pool(rows, index, weights, offsets, F)
    upstream = torch.randn_like(fields)
    fields.backward(upstream)
    assert rows.grad is not None
    torch.testing.assert_close(gradient_of_rows(upstream, index, weights, offsets, R), rows.grad)


def test_a_step_changes_only_the_rows_of_its_batch() -> None:
    train = make_examples(100, 1)
    learner = make_learner(CONFIG.model_copy(update={"id_dropout": 0.0}), train)
    before = learner.table.clone()
    part = train.rows.unpack().take(np.arange(5))
    learner.learn(part, torch.from_numpy(train.labels[:5]))
    changed = (learner.table != before).any(dim=1).nonzero().flatten().tolist()
    assert changed == sorted(set(part.ids.tolist()))


def test_lazy_decay_costs_a_row_in_expectation_what_the_full_penalty_does() -> None:
    n, b = 5_000, 100
    counts = np.array([0, 1, 50, 2_500, 5_000])
    decay = lazy_decay(b, counts, n).numpy()
    rng = np.random.default_rng(0)
    for c, d in zip(counts[1:], decay[1:], strict=True):
        holds = np.arange(n) < c
        visited = np.mean([holds[rng.permutation(n)].reshape(-1, b).any(axis=1).mean() for _ in range(400)])
        assert visited * d == pytest.approx(1 / n, rel=0.15)


def test_learning_beats_the_constant_and_finds_the_truth() -> None:
    learnt = run(LearnerConfig(model=DeepFMConfig(embedding_dim=4, hidden=(8,)), batch_size=64, epochs=8))
    y = make_examples(800, 2).labels
    constant = -np.mean(np.where(y == 1, np.log(y.mean()), np.log(1 - y.mean())))
    best = min(e.validation_log_loss for e in learnt.history)
    assert best < 0.9 * constant
    assert learnt.history[learnt.best_epoch - 1].validation_log_loss == best


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not() -> None:
    first = run(CONFIG)
    assert same(first, run(CONFIG))
    assert not same(first, run(CONFIG.model_copy(update={"seed": 8})))


@pytest.mark.parametrize("optimizer", ["rowwise_adagrad", "adam", "sgd"])
@pytest.mark.parametrize("batches", [1, 30])
def test_a_killed_run_goes_on_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str, batches: int
) -> None:
    monkeypatch.setattr("models.training.trainer.CHECKPOINT_EVERY_S", 0.0)  # after each batch
    config = CONFIG.model_copy(update={"optimizer": optimizer, "learning_rate": 0.05})
    whole = run(config)
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(KeyboardInterrupt):
        run(config, path, stop_after=batches)
    resumed = run(config, path)
    assert same(whole, resumed)
    assert [e.validation_log_loss for e in whole.history] == [e.validation_log_loss for e in resumed.history]
    again = run(config, path, stop_after=1)  # a run that was over has nothing left to do
    assert same(whole, again)


@pytest.mark.parametrize("stop_after", [None, 1, 20, 41])
def test_learning_again_goes_on_to_the_same_bytes_and_stops_after_its_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int | None
) -> None:
    monkeypatch.setattr("models.training.trainer.CHECKPOINT_EVERY_S", 0.0)  # after each batch
    train, epochs = make_examples(3_000, 1), list[int]()

    def progress(epoch: int, done: int, total: int, loss: float) -> None:
        epochs.append(epoch)
        if len(epochs) == stop_after:
            raise KeyboardInterrupt

    whole, path = make_learner(CONFIG, train), tmp_path / "checkpoint.safetensors"
    relearn(whole, [Part.of(train)], 2, lambda *_: None)
    learner = make_learner(CONFIG, train)
    if stop_after is not None:
        with pytest.raises(KeyboardInterrupt):
            relearn(learner, [Part.of(train)], 2, progress, path)
        learner = make_learner(CONFIG, train)
    relearn(learner, [Part.of(train)], 2, progress, path)
    assert epochs[-1] == 2
    assert all(torch.equal(a, b) for a, b in zip(whole.tensors().values(), learner.tensors().values(), strict=True))


def test_learning_again_from_the_same_rows_gives_what_the_first_time_gave() -> None:
    train = make_examples(3_000, 1)
    learnt, learner = run(CONFIG), make_learner(CONFIG, train)
    relearn(learner, [Part.of(train)], learnt.best_epoch, lambda *_: None)
    assert learner.table.numpy().tobytes() == learnt.table.tobytes()


def test_learning_stops_after_patience_and_keeps_the_best_epoch() -> None:
    learnt = run(
        CONFIG.model_copy(update={"learning_rate": 1.0, "dense_learning_rate": 0.1, "epochs": 30, "patience": 2})
    )
    losses = [e.validation_log_loss for e in learnt.history]
    assert len(losses) == learnt.best_epoch + 2
    assert losses[learnt.best_epoch - 1] == min(losses)


def test_a_loss_that_is_not_finite_ends_the_run_with_a_reason() -> None:
    with pytest.raises(TrainingError, match="not finite in epoch 1"):
        run(CONFIG.model_copy(update={"optimizer": "sgd", "learning_rate": 1e30}))


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.training.trainer.CHECKPOINT_EVERY_S", 0.0)
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(KeyboardInterrupt):
        run(CONFIG, path, stop_after=3)
    with pytest.raises(TrainingError, match="not a checkpoint of this run"):
        run(CONFIG.model_copy(update={"model": DeepFMConfig(embedding_dim=5)}), path)


def test_dropped_ids_train_the_out_of_vocabulary_row() -> None:
    train = make_examples(500, 1)
    learner = make_learner(CONFIG.model_copy(update={"id_dropout": 0.5}), train)
    before = learner.table.clone()
    learner.learn(train.rows.unpack(), torch.from_numpy(train.labels))
    assert all((learner.table[row] != before[row]).any() for row in OOV_ROWS)


def test_rows_that_training_never_saw_become_their_blocks_weighted_mean() -> None:
    table = np.arange(12, dtype=np.float32).reshape(6, 2)
    counts = np.array([0, 1, 3, 0, 0, 0])
    settled = settle_untouched_rows(table, counts, np.array([0, 3]))
    assert settled[0].tolist() == [(2 + 3 * 4) / 4, (3 + 3 * 5) / 4]
    assert settled[1:].tolist() == table[1:].tolist()


def test_an_encoded_batch_keeps_its_memory() -> None:
    batch: EncodedBatch = make_examples(10, 1).rows.unpack()
    assert batch.take(np.arange(10)).ids.tolist() == batch.ids.tolist()


def test_the_gradient_written_out_equals_autograds_through_the_head() -> None:
    learner = make_learner(CONFIG.model_copy(update={"field_dropout": 0.3}), make_examples(100, 1))
    learner.head.eval()  # no unit dropout: the two passes must see the same
    fields, labels = torch.randn(40, F, 5), (torch.rand(40) < 0.4).float()
    torch.manual_seed(3)
    loss, gradient = learner._differentiate(fields.clone(), labels)
    own = [p.grad.clone() for p in learner.head.parameters() if p.grad is not None]
    torch.manual_seed(3)
    kept = torch.cat((learner._kept_fields(fields.shape[:2]).expand(-1, -1, 4), torch.ones(40, F, 1)), dim=2)
    fields.requires_grad_()
    learner.head.zero_grad()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(learner.head(fields * kept), labels)
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-6)
    assert fields.grad is not None
    assert torch.allclose(gradient, fields.grad, atol=1e-7)
    for mine, parameter in zip(own, learner.head.parameters(), strict=True):
        assert parameter.grad is not None
        assert torch.allclose(mine, parameter.grad, atol=1e-7)
