from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from models.data.warm_start import Inheritance
from models.errors import TrainingError
from models.features.packed_rows import PackedRows
from models.network.head import DeepFMConfig
from models.schema.feature_schema import Pooling
from models.training.train_config import TrainConfig
from models.training.train_step import TrainStep, counts_after_dropout, device_of
from tests.models.training.making import CONFIG, OOV_ROWS, R, make_examples, make_step


def some(rows: PackedRows, n: int) -> PackedRows:
    return rows.select(np.arange(n), rows.row_starts())


@pytest.mark.parametrize("single", [True, False])
def test_a_step_changes_only_the_rows_of_its_batch(*, single: bool) -> None:
    train = make_examples(100, 1, single=single)
    step = make_step(CONFIG.model_copy(update={"id_dropout": 0.0}), train)
    before = step.table.clone()
    part = some(train.rows, 5)
    step(part, train.labels[:5])
    changed = (step.table != before).any(dim=1).nonzero().flatten().tolist()
    assert changed == sorted(set(part.ids.tolist()))


MODELS: list[dict[str, Any]] = [
    {},
    {"hidden": ()},
    {"dropout": 0.2},
    {"activation": "prelu", "batch_norm": True},
    {"activation": "dice"},
]
OPTIONS: list[dict[str, float]] = [{}, {"id_dropout": 0.1, "dense_l2": 0.1, "field_dropout": 0.0}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("model", MODELS, ids=str)
@pytest.mark.parametrize("single", [True, False])
def test_compiled_operators_train_the_model_that_torch_does(
    model: dict[str, Any], options: dict[str, float], monkeypatch: pytest.MonkeyPatch, *, single: bool
) -> None:
    train = make_examples(200, 1, single=single)
    config = TrainConfig(model=DeepFMConfig(embedding_dim=4, **({"hidden": (8,)} | model)), batch_size=50, **options)
    losses, tables = [], []
    for _ in range(2):
        step = make_step(config, train)
        starts = train.rows.row_starts()
        parts = [np.arange(at, at + 50) for at in range(0, 200, 50)]
        losses.append([step(train.rows.select(part, starts), train.labels[part]) for part in parts * 2])
        tables.append(step.table)
        monkeypatch.setattr("models.network.operators.native", None)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    torch.testing.assert_close(*tables, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("pooling", "power"), [("mean", 1.0), ("sqrtn", 0.5)])
def test_a_step_follows_the_gradient_of_loss_and_prior(pooling: Pooling, power: float) -> None:
    train = make_examples(64, 1, pooling=pooling)
    config = TrainConfig(model=DeepFMConfig(embedding_dim=4, hidden=()), batch_size=64, field_dropout=0.0, epochs=1)
    step = make_step(config, train)
    before = step.table.double().clone().requires_grad_()
    batch = train.rows.unpack()
    index = torch.from_numpy(batch.ids)
    bags = [before[index[a:z]].sum(dim=0) / (z - a) ** power for a, z in pairwise(batch.offsets.tolist())]
    logits = step.head.double()(torch.stack(bags).view(64, 3, 5))
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.from_numpy(train.labels).double())
    held = before[index.unique()]  # a whole log in one batch pays the whole penalty
    prior = held[:, :-1].square().sum() / 0.002 + held[:, -1].square().sum() / 0.1
    (gradient,) = torch.autograd.grad(loss + prior / (2 * 64), before)
    step.head.float()
    assert step(train.rows, train.labels) == pytest.approx(loss.item(), rel=1e-5)
    norms = torch.stack((gradient[:, :-1].square().mean(dim=1), gradient[:, -1].square()), dim=1)
    torch.testing.assert_close(step.rows.squares.double(), norms, rtol=1e-3, atol=1e-9)
    changes = 0.03 * gradient / norms.sqrt()[:, [0, 0, 0, 0, 1]].clamp(min=1e-8)
    torch.testing.assert_close(step.table.double(), before.detach() - changes, rtol=1e-3, atol=1e-4)


def test_a_loss_that_is_not_finite_updates_nothing() -> None:
    train = make_examples(64, 1)
    step = make_step(CONFIG, train)
    step.head.bias.data.fill_(float("nan"))
    table, weight = step.table.clone(), step.head.state_dict()["deep.0.weight"].clone()
    assert np.isnan(step(train.rows, train.labels))
    assert torch.equal(step.table, table)
    assert torch.equal(step.head.state_dict()["deep.0.weight"], weight)


def test_dropped_ids_train_the_out_of_vocabulary_row() -> None:
    train = make_examples(500, 1)
    step = make_step(CONFIG.model_copy(update={"id_dropout": 0.5}), train)
    before = step.table.clone()
    step(train.rows, train.labels)
    assert all((step.table[row] != before[row]).any() for row in OOV_ROWS)


def test_counts_after_dropout_are_what_epochs_hold_on_average() -> None:
    counts, oov, rng = np.array([0, 5, 40, 3, 9, 0, 2]), np.array([1, 1, 5]), np.random.default_rng(0)
    ids = np.repeat(np.arange(7), counts)
    oov_of = np.where(ids < 4, 1, 5)
    held = [np.bincount(np.where(rng.random(len(ids)) < 0.3, oov_of, ids), minlength=7) for _ in range(4_000)]
    assert counts_after_dropout(counts, oov, 0.3).tolist() == pytest.approx(np.mean(held, axis=0).tolist(), abs=0.2)
    assert counts_after_dropout(counts, oov, 0.0).tolist() == counts.tolist()


def test_the_step_size_falls_to_zero_and_not_below() -> None:
    train = make_examples(128, 1)
    step = make_step(CONFIG.model_copy(update={"batch_size": 128, "epochs": 1}), train)
    step(train.rows, train.labels)
    table = step.table.clone()
    step(train.rows, train.labels)  # as when shards smaller than a batch make more steps
    assert torch.equal(step.table, table)


def test_a_warm_start_begins_with_the_artifacts_weights_and_stays_nearer_the_more_they_saw() -> None:
    train, known = make_examples(500, 1), np.arange(30)
    head = {name: tensor.numpy() + 0.1 for name, tensor in make_step(CONFIG, train).head.state_dict().items()}
    moved = []
    for count in (0, 10**6):
        old = Inheritance(known, np.full((30, 5), 2.0, np.float32), np.full(30, count), head, 10_000, "before")
        step = TrainStep(CONFIG, np.bincount(train.rows.ids, minlength=R), OOV_ROWS, train.labels, old)
        assert (step.table[:30] == 2).all()
        assert all(np.array_equal(tensor.numpy(), head[name]) for name, tensor in step.head.state_dict().items())
        for _ in range(10):
            step(train.rows, train.labels)
        moved.append((step.table[:30] - 2).abs().mean().item())
    assert moved[1] < 0.5 * moved[0]


def test_a_gpu_is_used_where_it_is_asked_for_and_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # put back afterwards
    for has_gpu, devices in (
        (True, {"cpu": "cpu", "auto": "cuda", "cuda": "cuda"}),
        (False, {"cpu": "cpu", "auto": "cpu"}),
    ):
        monkeypatch.setattr(torch.cuda, "is_available", lambda has_gpu=has_gpu: has_gpu)
        for name, expected in devices.items():
            assert device_of(TrainConfig.model_validate({"device": name})).type == expected
    with pytest.raises(TrainingError, match="--device cuda: torch finds no GPU"):
        device_of(TrainConfig(device="cuda"))
