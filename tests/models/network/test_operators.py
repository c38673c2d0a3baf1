"""The compiled operators are their torch references, with the vectors of every generation of processors that this one has."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd import gradcheck

if not os.environ.get("CI"):  # there it must be
    pytest.importorskip("models._native", reason="built without a C compiler")

from models import _native as native
from models.network import operators
from models.network.deepfm import Bags, fm_and_first_layer, pool

VECTORS = st.sampled_from([16, 8, 4])
SEEDS = st.integers(0, 99)
NOT_DOUBLE = "ignore:Input .* requires gradient and is not a double precision"


def make_batch(b: int, rows_per_field: list[int], E: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return values [U, E+1], index [b, F] and mask [b, F]; fields hold some of their rows, not all."""
    rng, F = np.random.default_rng(seed), len(rows_per_field)
    starts = np.cumsum([0, *rows_per_field])
    index = np.stack([rng.integers(starts[f], starts[f + 1], b) for f in range(F)], axis=1).astype(np.int32)
    values = rng.normal(0, 0.5, (starts[-1], E + 1)).astype(np.float32)
    mask = ((rng.random((b, F)) > 0.3) / 0.7).astype(np.float32)
    return torch.from_numpy(values), torch.from_numpy(index), torch.from_numpy(mask)


@given(
    b=st.integers(1, 60),
    rows_per_field=st.lists(st.sampled_from([1, 3, 9, 40]), min_size=1, max_size=5),
    E=st.sampled_from([1, 4, 16, 35]),
    H=st.sampled_from([1, 8, 17, 150, 400]),
    longest=VECTORS,
    seed=SEEDS,
)
@settings(max_examples=100, deadline=None)
def test_first_layer_and_fm_with_their_gradients_are_the_references(
    b: int, rows_per_field: list[int], E: int, H: int, longest: int, seed: int
) -> None:
    values, index, mask = make_batch(b, rows_per_field, E, seed)
    F = len(rows_per_field)
    torch.manual_seed(seed)
    weight, by_fm, by_sums = torch.randn(H, F * E) * 0.3, torch.randn(b) / b, torch.randn(b, H) / b
    found, gradients = [], []
    for compiled in (True, False):
        inputs = values.clone().requires_grad_(), weight.clone().requires_grad_()
        if compiled:
            outputs = operators.fm_and_first_layer(*inputs, index, mask, longest)
        else:
            outputs = fm_and_first_layer(pool(inputs[0], Bags(index.view(-1), F)), mask, inputs[1])
        found.append([output.detach() for output in outputs])
        gradients.append(torch.autograd.grad(outputs, inputs, (by_fm, by_sums)))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


def make_layers(widths: list[int], seed: int) -> nn.Sequential:
    """Return layers after a first one of ``widths[0]`` units, with biases that are not zero."""
    torch.manual_seed(seed)
    pairs = [(nn.Linear(a, z), nn.ReLU()) for a, z in zip(widths, [*widths[1:], 1], strict=True)]
    return nn.Sequential(*[layer for pair in pairs for layer in pair][:-1])


@given(
    st.lists(st.sampled_from([1, 3, 16, 17, 64, 130, 400]), min_size=1, max_size=3),
    st.integers(1, 70) | st.just(600),
    VECTORS,
    SEEDS,
)
@settings(max_examples=100, deadline=None)
def test_rectified_layers_with_their_gradients_are_torchs(widths: list[int], b: int, longest: int, seed: int) -> None:
    layers = make_layers(widths, seed)
    parameters = list(layers.parameters())
    x, bias, by_logits = torch.randn(b, widths[0]), torch.randn(widths[0]), torch.randn(b) / b
    x[torch.rand(x.shape) < 0.1] = 0.0
    x[:, 0] = -bias[0]  # sums of zero: nothing comes through, forwards or backwards
    x.requires_grad_(), bias.requires_grad_()
    expected = layers(torch.relu(x + bias)).squeeze(1)
    compiled = operators.rectified_layers(x, bias, *parameters, longest=longest)
    torch.testing.assert_close(compiled, expected, rtol=1e-4, atol=1e-5)
    gradients = [torch.autograd.grad(logits, [x, bias, *parameters], by_logits) for logits in (compiled, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings(NOT_DOUBLE)
@pytest.mark.parametrize("longest", [16, 8, 4])
def test_gradients_are_those_of_finite_differences(longest: int) -> None:
    values, index, mask = make_batch(4, [2, 3, 1], 5, 0)
    torch.manual_seed(0)
    weight = torch.randn(6, 15).requires_grad_()
    # Quadratic in the values and linear in the weight: a central difference of any width is exact but for rounding.
    assert gradcheck(
        lambda v, w: operators.fm_and_first_layer(v, w, index, mask, longest),
        (values.requires_grad_(), weight),
        eps=0.1,
        atol=1e-3,
    )
    x, layers = torch.randn(3, 7).requires_grad_(), list(make_layers([7, 4], 3).parameters())
    bias = torch.randn(7).requires_grad_()
    assert gradcheck(
        lambda *t: operators.rectified_layers(*t, longest=longest), (x, bias, *layers), eps=1e-3, atol=2e-3
    )


@pytest.mark.parametrize("longest", [16, 8, 4])
def test_the_same_tensors_give_the_same_bits_whatever_was_computed_before(longest: int) -> None:
    layers = list(make_layers([40, 17], 0).parameters())

    def gradients(b: int) -> tuple[Tensor, ...]:
        torch.manual_seed(b)
        x, bias = torch.randn(b, 40).requires_grad_(), torch.zeros(40).requires_grad_()
        logits = operators.rectified_layers(x, bias, *layers, longest=longest)
        return (logits, *torch.autograd.grad(logits.square().sum(), [x, bias, *layers]))

    before = gradients(50)
    gradients(300)
    assert all(torch.equal(one, other) for one, other in zip(before, gradients(50), strict=True))


@pytest.mark.parametrize("longest", [16, 8, 4])
def test_nan_propagates(longest: int) -> None:
    x = torch.randn(3, 5)
    x[1, 2] = float("nan")
    logits = operators.rectified_layers(x, torch.zeros(5), *make_layers([5, 4], 0).parameters(), longest=longest)
    assert logits.isnan().tolist() == [False, True, False]


def zeros(*shapes: tuple[int, ...]) -> list[NDArray[Any]]:
    return [np.zeros(shape, np.float32) for shape in shapes]


def wrong_versions(array: NDArray[Any]) -> list[NDArray[Any]]:
    """Return arrays that cannot stand for one: too small, of another type, not contiguous."""
    every_second = np.zeros((*array.shape, 2), array.dtype)[..., 0]
    others = [np.zeros(array.size - 1, array.dtype), array.astype(np.float64)]
    return others if array.size == 1 else [*others, every_second]


def check_refusals(function: Any, arrays: list[NDArray[Any]], *, writable: set[int]) -> None:
    function(*arrays)
    for i, array in enumerate(arrays):
        wrong = wrong_versions(array)
        if i in writable:
            wrong.append(np.frombuffer(bytes(array.nbytes), array.dtype).reshape(array.shape))
        for other in wrong:
            with pytest.raises((ValueError, BufferError)):
                function(*arrays[:i], other, *arrays[i + 1 :])


def test_arrays_of_other_sizes_types_or_layouts_are_refused() -> None:
    batch = [*zeros((5, 5), (8, 8)), np.array([[0, 4]] * 3, np.int32), *zeros((3, 2))]
    forward, backward = zeros((3, 8), (3, 4), (3,)), zeros((3, 8), (3,), (3, 4), (5, 5), (8, 8))
    check_refusals(lambda *a: native.first_layer(16, *a), [*batch, *forward], writable={4, 5, 6})
    check_refusals(lambda *a: native.first_layer_backward(16, *a), [*batch, *backward], writable={7, 8})
    forward, layers = zeros((2, 5), (5,), (2,)), zeros((3, 5), (3,), (1, 3), (1,))
    check_refusals(lambda *a: native.hidden_layers(16, *a), [*forward, *layers], writable={2})
    activations = native.hidden_layers(16, *forward, *layers)
    backward = zeros((2,), (2, 5), (5,), (3, 5), (3,), (3, 5), (3,), (1, 3), (1,), (1, 3), (1,))
    written = {1, 2, 5, 6, 9, 10}
    check_refusals(lambda *a: native.hidden_layers_backward(16, activations, *a), backward, writable=written)
    with pytest.raises(ValueError, match="activations"):
        native.hidden_layers_backward(16, activations[:-4], *backward)
    for some in (3, 6, 3 + 4 * 33):
        with pytest.raises(TypeError, match=r"layers|arguments"):
            native.hidden_layers(16, *[*forward, *layers * 40][:some])


@pytest.mark.parametrize("row", [[0, 0], [4, 4], [0, 5], [-1, 4], [4, 0], [-(2**31), 4]])
def test_an_index_outside_its_fields_rows_is_refused(row: list[int]) -> None:
    arrays: list[Any] = zeros((5, 5), (8, 8), (3, 2), (3, 8), (3, 4), (3,))
    arrays.insert(2, np.array([[0, 4], [1, 2], row], np.int32))
    with pytest.raises(ValueError, match="rows in the order of the fields"):
        native.first_layer(16, *arrays)
