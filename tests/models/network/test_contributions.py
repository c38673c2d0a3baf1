"""Contributions sum to the logit, and each part is what a slow, obvious version computes."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from models.network.contributions import Contributor
from models.network.head import Activation, DeepFMConfig
from tests.models.network.making import make_fields, make_heads, make_module, pooled, reference, tensors_of
from tests.models.network.test_head import configs


@settings(max_examples=40)
@given(configs, st.integers(1, 9), st.integers(0, 2**16))
def test_contributions_sum_to_the_logit_that_every_head_serves(
    config: DeepFMConfig, num_fields: int, seed: int
) -> None:
    module = make_module(config, num_fields, seed)
    fields = make_fields(3, num_fields, config.embedding_dim, seed)
    contributor = Contributor(config, num_fields, tensors_of(module))
    totals = np.array([contributor.contributions(row).total for row in fields])
    expected = reference(module, fields)
    np.testing.assert_allclose(totals, expected, rtol=0, atol=1e-9 * (1 + np.abs(expected).max()))
    for head in make_heads(module):
        served = head.logits(pooled(fields, num_fields))
        assert np.abs(served - totals).max() <= 1e-5 * max(1.0, np.abs(expected).max() / 8)


@pytest.mark.parametrize("activation", ["relu", "prelu", "dice"])
@pytest.mark.parametrize("hidden", [(9, 7, 5), (4,), ()])
def test_each_part_is_what_loops_and_autograd_compute(activation: Activation, hidden: tuple[int, ...]) -> None:
    config = DeepFMConfig(embedding_dim=3, hidden=hidden, activation=activation, batch_norm=True)
    F, points = 4, 20_000
    module = make_module(config, F).double()
    (fields,) = make_fields(1, F, config.embedding_dim) * 4
    parts = Contributor(config, F, tensors_of(module)).contributions(fields)
    rows = fields.astype(np.float64).reshape(F, -1)
    assert parts.first_order.tolist() == rows[:, -1].tolist()
    pairs = [float(rows[i, :-1] @ rows[j, :-1]) for i in range(F) for j in range(i + 1, F)]
    np.testing.assert_allclose(parts.second_order, pairs, atol=1e-12)
    x = torch.from_numpy(rows[:, :-1].reshape(1, -1))
    steps = ((torch.arange(points) + 0.5) / points)[:, None]
    path = (steps * x).requires_grad_()
    module.deep(path).sum().backward()
    assert path.grad is not None
    by_field = (path.grad.mean(dim=0) * x[0]).view(F, -1).sum(dim=1).numpy()
    np.testing.assert_allclose(parts.deep, by_field, atol=2e-4 * (1 + np.abs(by_field).max()))


def test_a_field_of_zeros_contributes_nothing_and_zeros_alone_give_the_bias() -> None:
    config = DeepFMConfig(embedding_dim=2, hidden=(6, 5))
    module = make_module(config, 3)
    contributor = Contributor(config, 3, tensors_of(module))
    (fields,) = make_fields(1, 3, 2)
    fields[3:6] = 0
    parts = contributor.contributions(fields)
    assert (parts.first_order[1], parts.deep[1]) == (0, 0)
    assert [parts.second_order[0], parts.second_order[2]] == [0, 0]
    nothing = contributor.contributions(np.zeros_like(fields))
    assert nothing.total == nothing.bias == pytest.approx(float(reference(module, np.zeros((1, 9), np.float32))[0]))
