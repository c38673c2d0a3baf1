import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given

from models.network.deepfm import DeepFMHead, Dice, pool, second_order
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
    x = torch.randn(B, F, E + 1)
    (w1, b1, w2, b2) = (p.detach().numpy().astype(np.float64) for p in head.deep.parameters())
    expected = []
    for row in x.numpy().astype(np.float64):
        v, w = row[:, :E], row[:, E]
        first = w[0] + w[1] + w[2]
        second = v[0] @ v[1] + v[0] @ v[2] + v[1] @ v[2]
        deep = w2 @ np.maximum(w1 @ v.ravel() + b1, 0) + b2
        expected.append(0.7 + first + second + deep[0])
    assert head(x).tolist() == pytest.approx(expected, abs=1e-5)


def test_pooling_is_the_weighted_sum_of_each_bags_rows() -> None:
    torch.manual_seed(1)
    rows = torch.randn(6, 3)
    index, weights = torch.tensor([0, 5, 5, 2, 1, 0, 3]), torch.tensor([1.0, 0.5, 0.5, 1.0, 1.0, 0.25, 0.75])
    offsets = torch.tensor([0, 1, 3, 4, 7])
    expected = [
        sum((weights[i] * rows[index[i]] for i in range(a, b)), torch.zeros(3))
        for a, b in itertools.pairwise(offsets.tolist())
    ]
    torch.testing.assert_close(pool(rows, index, weights, offsets, 2), torch.stack(expected).view(2, 2, 3))


def test_pooling_single_values_is_a_gather() -> None:
    rows = torch.randn(6, 3)
    index = torch.tensor([3, 0, 5, 5])
    ones = torch.ones(4)
    torch.testing.assert_close(pool(rows, index, ones, torch.arange(5), 2), rows[index].view(2, 2, 3))


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


def test_no_hidden_layers_is_a_linear_deep_part() -> None:
    head = DeepFMHead(DeepFMConfig(embedding_dim=2, hidden=()), 3)
    assert len(list(head.deep.parameters())) == 2
