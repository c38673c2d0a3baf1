"""The compiled layers are those that torch differentiates, with the vectors of every generation of processors that this one has."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

if not os.environ.get("CI"):  # there it must be
    pytest.importorskip("models._native", reason="built without a C compiler")

from models._native import HiddenLayers
from models.network.deepfm import DeepFMHead
from models.network.head import DeepFMConfig
from models.network.hidden_layers import AutogradLayers, CompiledLayers, layers_of

WIDTHS = st.lists(st.sampled_from([1, 3, 16, 17, 64, 130, 400]), min_size=1, max_size=3)


def gradients(head: DeepFMHead) -> list[torch.Tensor]:
    # Of all that the layers fill: not the first weight, nor the bias of the whole.
    found = [p.grad.clone() for p in [*head.deep.parameters()][1:] if p.grad is not None]
    head.zero_grad()
    return found


@given(WIDTHS, st.integers(1, 70) | st.just(600), st.sampled_from([16, 8, 4]), st.integers(0, 99))
@settings(max_examples=80, deadline=None)
def test_logits_and_gradients_are_those_of_torch(widths: list[int], b: int, longest: int, seed: int) -> None:
    torch.manual_seed(seed)
    head = DeepFMHead(DeepFMConfig(embedding_dim=2, hidden=tuple(widths)), 2)
    for parameter in head.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)  # of biases, too
    sums, g = torch.randn(b, widths[0]), torch.randn(b) / b
    sums[torch.rand(sums.shape) < 0.1] = 0.0  # neither let through nor given back
    by_torch, compiled = AutogradLayers(head), CompiledLayers(head, longest)
    expected_logits, expected = by_torch.forward(sums), by_torch.backward(g)
    theirs = gradients(head)
    for _ in range(2):  # the memory that it keeps is no longer zero
        torch.testing.assert_close(compiled.forward(sums), expected_logits, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(compiled.backward(g), expected, rtol=1e-4, atol=1e-6)
        for mine, their in zip(gradients(head), theirs, strict=True):
            torch.testing.assert_close(mine, their, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("longest", [16, 8, 4])
def test_the_same_numbers_give_the_same_bits_whatever_was_learnt_before(longest: int) -> None:
    head = DeepFMHead(DeepFMConfig(embedding_dim=2, hidden=(40, 17)), 2)
    sums, other, g = torch.randn(50, 40), torch.randn(300, 40), torch.randn(50)
    fresh, used = CompiledLayers(head, longest), CompiledLayers(head, longest)
    used.forward(other)
    used.backward(torch.randn(300))
    assert torch.equal(fresh.forward(sums), used.forward(sums))
    assert torch.equal(fresh.backward(g), used.backward(g))


def test_both_kinds_of_fused_products_give_the_same_bits() -> None:
    head = DeepFMHead(DeepFMConfig(embedding_dim=2, hidden=(40, 33)), 2)
    sums, g = torch.randn(300, 40), torch.randn(300)
    found = []
    for longest in (16, 8):
        layers = CompiledLayers(head, longest)
        found.append([layers.forward(sums), layers.backward(g), *gradients(head)])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("longest", [16, 8, 4])
def test_what_is_no_number_is_not_taken_for_zero(longest: int) -> None:
    head = DeepFMHead(DeepFMConfig(embedding_dim=2, hidden=(5, 4)), 2)
    sums = torch.randn(3, 5)
    sums[1, 2] = float("nan")
    assert CompiledLayers(head, longest).forward(sums).isnan().tolist() == [False, True, False]


@pytest.mark.parametrize(
    "other", [{"dropout": 0.5}, {"batch_norm": True}, {"activation": "prelu"}, {"activation": "dice"}, {"hidden": ()}]
)
def test_other_layers_are_left_to_torch(other: dict[str, Any]) -> None:
    assert isinstance(layers_of(DeepFMHead(DeepFMConfig(), 2), 1), CompiledLayers)
    assert isinstance(layers_of(DeepFMHead(DeepFMConfig(), 2), 16), AutogradLayers)
    assert isinstance(layers_of(DeepFMHead(DeepFMConfig(**other), 2), 1), AutogradLayers)


def test_arrays_that_do_not_fit_are_refused() -> None:
    def zeros(*shapes: tuple[int, ...]) -> list[NDArray[np.float32]]:
        return [np.zeros(shape, np.float32) for shape in shapes]

    layers = HiddenLayers(16)
    there = zeros((2, 5), (2,), (3, 5), (3,), (1, 3), (1,))
    back = zeros((2,), (2, 5), (5,), (3, 5), (3,), (3, 5), (3,), (1, 3), (1,), (1, 3), (1,))
    with pytest.raises(ValueError, match="fit"):
        layers.backward(*back)  # before `forward`
    for i in range(len(there)):
        with pytest.raises(ValueError, match="fit"):
            layers.forward(*there[:i], *zeros((7,)), *there[i + 1 :])
    for wrong in (there[:2], there[:5], there[:4], there[:2] + there[2:4] * 40):
        with pytest.raises(ValueError, match=r"fit|none of whole layers"):
            layers.forward(*wrong)
    for i in range(len(back)):
        layers.forward(*there)
        with pytest.raises(ValueError, match="fit"):
            layers.backward(*back[:i], *zeros((7,)), *back[i + 1 :])
    layers.forward(*there)
    layers.backward(*back)
    with pytest.raises(ValueError, match="fit"):
        layers.backward(*back)  # what `forward` left is gone
    with pytest.raises(ValueError, match="read-only"):
        layers.forward(there[0], np.frombuffer(bytes(8), np.float32), *there[2:])
