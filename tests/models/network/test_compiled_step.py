"""The compiled step is the one in torch, with the vectors of every generation of processors that this one has."""

from __future__ import annotations

import os
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

if not os.environ.get("CI"):  # there it must be
    pytest.importorskip("models._native", reason="built without a C compiler")

from models._native import Step, adagrad
from models.network.compiled_step import DistinctStep
from models.network.deepfm import DeepFMHead
from models.network.distinct_step import differentiate_rows
from models.network.head import DeepFMConfig
from models.network.hidden_layers import AutogradLayers, CompiledLayers
from models.training.optimizers import RULES, RowOptimizer

STARTS = np.array([0, 20, 23, 60])
"""Of three fields' blocks, and the end of the last."""
VECTORS = [16, 8, 4]


@pytest.mark.parametrize("longest", VECTORS)
@pytest.mark.parametrize("embedding_dim", [1, 4, 16, 35])
@pytest.mark.parametrize("hidden", [(), (8,), (8, 4), (17,), (150, 3), (400,)])
@pytest.mark.parametrize("b", [1, 40, 200])
def test_loss_and_gradients_are_those_of_torch(
    b: int, hidden: tuple[int, ...], embedding_dim: int, longest: int
) -> None:
    torch.manual_seed(1)
    rng = np.random.default_rng(7)
    ids = np.stack([rng.integers(start, end, b) for start, end in pairwise(STARTS.tolist())], axis=1)
    touched, index = np.unique(ids.reshape(-1), return_inverse=True)
    batch = (
        torch.randn(len(touched), embedding_dim + 1) * 0.5,
        np.searchsorted(touched, STARTS),
        torch.from_numpy(index),
        (torch.rand(b, 3) > 0.3) / 0.7,
        torch.arange(b) % 2.0,
    )
    head = DeepFMHead(DeepFMConfig(embedding_dim=embedding_dim, hidden=hidden), 3)
    expected_loss, expected = differentiate_rows(head, *batch)
    gradients = [p.grad.clone() for p in head.parameters() if p.grad is not None]
    step = DistinctStep(head, CompiledLayers(head, longest) if hidden else AutogradLayers(head))
    step._compiled = Step(3, embedding_dim, head.state_dict()["deep.0.weight"].shape[0], longest)
    for _ in range(2):  # then with torch's hidden layers, as with many threads
        loss, gradient = step.differentiate(*batch)
        assert loss == pytest.approx(expected_loss, rel=1e-5)
        torch.testing.assert_close(gradient, expected, rtol=2e-5, atol=2e-6)
        for parameter, theirs in zip(head.parameters(), gradients, strict=True):
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, theirs, rtol=2e-5, atol=2e-6)
        step._layers = AutogradLayers(head)


def test_arrays_that_do_not_fit_are_refused() -> None:
    step = Step(2, 4, 8, 16)
    shapes = {"values": (5, 5), "weight": (8, 8), "bounds": (3,), "index": (3, 2), "kept": (3, 2)}
    shapes |= {"bias": (8,), "hidden": (3, 8), "totals": (3, 4), "logits": (3,)}
    fit = {name: np.zeros(s, np.int64 if name in ("bounds", "index") else np.float32) for name, s in shapes.items()}
    fit["bounds"][:] = [0, 2, 5]
    fit["index"][:, 1] = 4

    def forward(**other: NDArray[Any]) -> None:
        step.forward(*(fit | other).values())

    forward()
    for name, array in fit.items():
        with pytest.raises(ValueError, match=r"fit|not their field's"):
            forward(**{name: np.zeros(array.size - 1, array.dtype)})
    for row in ([0, 1], [0, 5], [-1, 4], [2, 4]):
        with pytest.raises(ValueError, match="not their field's"):
            forward(index=np.array([row] * 3))
    for bounds in ([0, 6, 5], [1, 2, 5], [0, 2, 4], [0, -1, 5]):
        with pytest.raises(ValueError, match="not their field's"):
            forward(bounds=np.array(bounds))
    for sizes in ((0, 4, 8), (2, -1, 8), (2, 4, 0)):
        with pytest.raises(ValueError, match="size"):
            Step(*sizes, 16)


@pytest.mark.parametrize("longest", VECTORS)
@pytest.mark.parametrize("width", [2, 5, 17, 36])
def test_a_step_from_a_prior_is_the_one_in_torch(width: int, longest: int) -> None:
    torch.manual_seed(0)
    table, squares, decay, precision = torch.randn(30, width), torch.zeros(30, 2), torch.rand(30), torch.rand(width)
    plain = RowOptimizer(RULES["rowwise_adagrad"], table.clone())
    for step in range(1, 6):
        touched, gradient = torch.randperm(30)[:13], torch.randn(13, width)
        arrays = (touched, table[touched], gradient, decay, precision, table, squares)
        adagrad(0.1, longest, *(a.numpy() for a in arrays))
        plain.step(touched, gradient + plain.table[touched] * decay[touched, None] * precision, step, 0.1)
        torch.testing.assert_close(table, plain.table)
        torch.testing.assert_close(squares, plain.state[0])


def test_arrays_that_do_not_fit_the_table_are_refused() -> None:
    shapes = [(2, 4), (2, 4), (5,), (4,), (5, 4), (5, 2)]
    fit: list[NDArray[Any]] = [np.zeros(2, np.int64), *(np.zeros(shape, np.float32) for shape in shapes)]
    adagrad(0.1, 16, *fit)
    for i, array in enumerate(fit):
        wrong = [*fit[:i], np.zeros(1, array.dtype), *fit[i + 1 :]]
        with pytest.raises(ValueError, match="fit"):
            adagrad(0.1, 16, *wrong)
    for row in (-1, 5):
        fit[0] = np.array([0, row])
        with pytest.raises(ValueError, match="fit"):
            adagrad(0.1, 16, *fit)
