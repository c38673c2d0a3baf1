import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from torch.nn import functional

from models.network.deepfm import Bags, DeepFMHead, Dice, pool, second_order
from models.network.head import Activation, DeepFMConfig


@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 5), st.integers(0, 2**31))
def test_the_second_order_term_is_the_double_sum_over_pairs(B: int, F: int, E: int, seed: int) -> None:
    v = np.random.default_rng(seed).normal(size=(B, F, E))
    oracle = [sum(float(row[i] @ row[j]) for i, j in itertools.combinations(range(F), 2)) for row in v]
    assert second_order(torch.from_numpy(v)).tolist() == pytest.approx(oracle, abs=1e-9)


def test_a_tiny_model_equals_numpy_by_hand() -> None:
    torch.manual_seed(3)
    B, F, E = 5, 3, 2
    head = DeepFMHead(DeepFMConfig(embedding_dim=E, hidden=(4,)), F)
    head.bias.data.fill_(0.7)
    fields, mask = torch.randn(B, F, E + 1), torch.tensor([[1.0, 0.0, 2.0]] * B)
    (w1, b1, w2, b2) = (p.detach().numpy().astype(np.float64) for p in head.deep.parameters())
    expected = []
    for row in fields.numpy().astype(np.float64):
        v, w = row[:, :E] * mask[0].numpy()[:, np.newaxis], row[:, E]
        first = w[0] + w[1] + w[2]
        second = v[0] @ v[1] + v[0] @ v[2] + v[1] @ v[2]
        deep = w2 @ np.maximum(w1 @ v.ravel() + b1, 0) + b2
        expected.append(0.7 + first + second + deep[0])
    assert head(fields, mask=mask).tolist() == pytest.approx(expected, abs=1e-5)


CONFIGS = [
    DeepFMConfig(embedding_dim=4, hidden=(8, 6)),
    DeepFMConfig(embedding_dim=4, hidden=(9,)),
    DeepFMConfig(embedding_dim=4, hidden=()),
    DeepFMConfig(embedding_dim=4, hidden=(8, 6), activation="prelu", batch_norm=True),
    DeepFMConfig(embedding_dim=4, hidden=(8, 6), activation="dice"),
]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_logits_and_gradients_are_the_same_without_compiled_operators(
    config: DeepFMConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    head, rows = DeepFMHead(config, 3), torch.randn(30, 5).requires_grad_()
    index = torch.stack([torch.randint(10 * f, 10 * f + 10, (20,)) for f in range(3)], dim=1).flatten().int()
    mask = (torch.rand(20, 3) > 0.3) / 0.7
    found = []
    for _ in range(2):
        logits = head(rows, Bags(index, 3, by_field=True), mask)
        gradients = torch.autograd.grad(functional.softplus(logits).mean(), [rows, *head.parameters()])
        found.append([logits.detach(), *gradients])
        monkeypatch.setattr("models.network.operators.native", None)
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_rows_that_fields_share_are_left_to_torch() -> None:
    head, rows = DeepFMHead(DeepFMConfig(embedding_dim=4, hidden=(8,)), 2), torch.randn(2, 5)
    shared = head(rows, Bags(torch.tensor([0, 1, 1, 0, 0, 0]), 2))
    apart = head(torch.cat((rows, rows)), Bags(torch.tensor([0, 3, 1, 2, 0, 2]).int(), 2, by_field=True))
    torch.testing.assert_close(shared, apart)


@pytest.mark.parametrize("lengths", [None, [2, 1, 1, 1, 1, 3]])
def test_the_forward_runs_where_no_memory_is_read(lengths: list[int] | None) -> None:
    head = DeepFMHead(DeepFMConfig(embedding_dim=4, hidden=(8, 6)), 3).to("meta")
    index = torch.zeros(6 if lengths is None else sum(lengths), dtype=torch.int64, device="meta")
    bags = Bags(index, 3, by_field=True)
    if lengths is not None:
        weights = torch.ones(len(index), device="meta")
        bags = Bags(index, 3, torch.tensor(lengths, device="meta"), weights, by_field=True)
    rows = torch.zeros(7, 5, device="meta", requires_grad=True)
    logits = head(rows, bags)
    assert logits.shape == (2,)
    logits.sum().backward()
    assert rows.grad is not None
    assert rows.grad.shape == rows.shape


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.integers(0, 99))
def test_pooling_is_the_weighted_sum_of_each_bags_rows(lengths: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    rows, index = torch.randn(6, 3, dtype=torch.float64, requires_grad=True), torch.randint(0, 6, (sum(lengths),))
    weights = torch.rand(sum(lengths), dtype=torch.float64)
    bags = zip(index.split(lengths), weights.split(lengths), strict=True)
    expected = torch.stack([w @ rows[i] for i, w in bags]).unsqueeze(1)
    pooled = pool(rows, Bags(index, 1, torch.tensor(lengths), weights))
    torch.testing.assert_close(pooled, expected)
    by_pooled = torch.randn_like(pooled)
    torch.testing.assert_close(
        torch.autograd.grad(pooled, rows, by_pooled), torch.autograd.grad(expected, rows, by_pooled)
    )


def test_pooling_single_values_is_a_gather() -> None:
    rows, index = torch.randn(6, 3), torch.tensor([3, 0, 5, 5])
    torch.testing.assert_close(pool(rows, Bags(index, 2)), rows[index].view(2, 2, 3))


def test_dice_is_a_gate_between_identity_and_alpha() -> None:
    dice = Dice(2)
    dice.alpha.data = torch.tensor([0.5, -1.0])
    s = torch.randn(64, 2)
    z = (s - s.mean(0)) / (s.var(0, unbiased=False) + 1e-8).sqrt()
    p = 1 / (1 + torch.exp(-z))
    torch.testing.assert_close(dice(s), p * s + (1 - p) * torch.tensor([0.5, -1.0]) * s)


@pytest.mark.parametrize("activation", ["relu", "prelu", "dice"])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_every_option_gives_one_logit_per_impression_and_gradients_everywhere(
    activation: Activation, batch_norm: bool
) -> None:
    head = DeepFMHead(
        DeepFMConfig(embedding_dim=4, hidden=(8, 4), dropout=0.1, activation=activation, batch_norm=batch_norm), 3
    )
    x = torch.randn(16, 3, 5, requires_grad=True)
    logits = head(x)
    assert logits.shape == (16,)
    logits.square().sum().backward()
    assert x.grad is not None
    assert all(p.grad is not None for p in head.parameters())
