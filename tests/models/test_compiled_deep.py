"""The compiled hidden layers are torch's, forwards and backwards, with the vectors of either kind of kernels."""

from __future__ import annotations

import os
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

if not os.environ.get("CI"):  # there it must be
    pytest.importorskip("models._native", reason="built without a C compiler")

from models._native import Deep
from models.compiled_step import _compiled_deep, _rectified
from models.deepfm import DeepFMHead
from models.head import DeepFMConfig

WIDTHS = [(1,), (17,), (400,), (3, 1), (17, 3), (1, 17), (400, 17), (17, 3, 1), (3, 400, 17), (64, 130, 81)]


def _made(widths: tuple[int, ...], longest: int) -> Deep:
    try:
        return Deep(widths, longest)
    except NotImplementedError:
        pytest.skip("no kernels for this processor")


def _layers(widths: tuple[int, ...]) -> list[nn.Linear]:
    torch.manual_seed(3)
    return [nn.Linear(inputs, outputs) for inputs, outputs in pairwise((*widths, 1))]


@pytest.mark.parametrize("longest", [16, 8])
@pytest.mark.parametrize("widths", WIDTHS)
def test_logits_and_gradients_are_those_of_torch(widths: tuple[int, ...], longest: int) -> None:
    layers, compiled = _layers(widths), _made(widths, longest)
    torch_deep = nn.Sequential(*(part for layer in layers for part in (nn.ReLU(), layer)))
    parameters = tuple(p.detach().numpy() for p in torch_deep.parameters())
    for b in (1, 600, 5, 97, 256):  # one memory for all of them
        x, g = torch.randn(b, widths[0], requires_grad=True), torch.randn(b) / b
        torch_deep.zero_grad()
        expected = torch_deep(x).squeeze(1)
        expected.backward(g)
        logits, by_x = np.empty(b, np.float32), np.full((b, widths[0]), np.nan, np.float32)
        gradients = tuple(np.full_like(p, np.nan) for p in parameters)
        compiled.forward(x.detach().numpy(), parameters, logits)
        compiled.backward(g.numpy(), parameters, by_x, gradients)
        torch.testing.assert_close(torch.from_numpy(logits), expected.detach(), rtol=2e-5, atol=2e-6)
        torch.testing.assert_close(torch.from_numpy(by_x), x.grad, rtol=2e-5, atol=2e-6)
        for gradient, parameter in zip(gradients, torch_deep.parameters(), strict=True):
            torch.testing.assert_close(torch.from_numpy(gradient), parameter.grad, rtol=2e-5, atol=2e-6)


def test_both_kinds_of_kernels_give_the_same_products() -> None:
    layers, rng = _layers((40, 33)), np.random.default_rng(0)
    parameters = tuple(p.detach().numpy() for layer in layers for p in layer.parameters())
    x, g = rng.normal(size=(300, 40)).astype(np.float32), rng.normal(size=300).astype(np.float32)
    found: list[list[NDArray[np.float32]]] = []
    for longest in (16, 8):
        compiled, logits, by_x = _made((40, 33), longest), np.empty(300, np.float32), np.empty_like(x)
        gradients = tuple(np.empty_like(p) for p in parameters)
        compiled.forward(x, parameters, logits)
        compiled.backward(g, parameters, by_x, gradients)
        found.append([by_x, *gradients])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_is_no_number_stays_none() -> None:
    parameters = tuple(p.detach().numpy() for layer in _layers((4, 3)) for p in layer.parameters())
    logits, x = np.empty(2, np.float32), np.zeros((2, 4), np.float32)
    x[1, 2] = np.nan
    _made((4, 3), 16).forward(x, parameters, logits)
    assert np.isfinite(logits).tolist() == [True, False]


def test_arrays_and_sizes_that_do_not_fit_are_refused() -> None:
    compiled = _made((4, 3), 16)
    parameters = tuple(p.detach().numpy() for layer in _layers((4, 3)) for p in layer.parameters())
    gradients = tuple(np.empty_like(p) for p in parameters)
    x, logits = np.zeros((2, 4), np.float32), np.zeros(2, np.float32)
    with pytest.raises(ValueError, match="fit"):  # of no forward
        compiled.backward(logits, parameters, x, gradients)
    compiled.forward(x, parameters, logits)
    compiled.backward(logits, parameters, x, gradients)
    wrong = [(parameters[:-1]), (*parameters[:2], *parameters[:2]), (*parameters[:3], np.zeros(2, np.float32))]
    for some in wrong:
        with pytest.raises(ValueError, match="fit"):
            compiled.forward(x, some, logits)
        with pytest.raises(ValueError, match="fit"):
            compiled.backward(logits, parameters, x, some)
    with pytest.raises(ValueError, match="fit"):
        compiled.forward(x[:, :3].copy(), parameters, logits)
    with pytest.raises(ValueError, match="fit"):
        compiled.backward(logits[:1], parameters, x[:1], gradients)
    for widths in ((), (0,), (4, -1), (1 << 21,)):
        with pytest.raises(ValueError, match="size"):
            Deep(widths, 16)
    with pytest.raises(NotImplementedError):
        Deep((4,), 4)


@pytest.mark.parametrize(
    ("config", "num_layers"),
    [
        (DeepFMConfig(hidden=(8, 4)), 2),
        (DeepFMConfig(hidden=()), 0),
        (DeepFMConfig(hidden=(8, 4), dropout=0.5), 0),
        (DeepFMConfig(hidden=(8, 4), batch_norm=True), 0),
        (DeepFMConfig(hidden=(8, 4), activation="prelu"), 0),
    ],
)
def test_all_but_rectified_layers_are_left_to_torch(config: DeepFMConfig, num_layers: int) -> None:
    layers = _rectified(DeepFMHead(config, 3).deep)
    assert len(layers) == num_layers
    if not layers:
        assert _compiled_deep(layers) is None
