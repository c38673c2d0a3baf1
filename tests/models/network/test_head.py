"""Every head for scoring computes what `DeepFMHead` does in evaluation mode."""

from __future__ import annotations

import itertools
import sys

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from models.network.compiled_head import CompiledHead
from models.network.deepfm import DeepFMHead
from models.network.head import Activation, DeepFMConfig, head_tensors, make_head
from models.network.torch_head import TorchHead
from tests.models.network.making import (
    SHAPES,
    WIDTHS,
    make_fields,
    make_heads,
    make_module,
    pooled,
    reference,
    tensors_of,
)

configs = st.builds(
    DeepFMConfig,
    embedding_dim=st.integers(1, 33),
    hidden=st.lists(st.integers(1, 70), max_size=3),
    dropout=st.sampled_from([0.0, 0.3]),
    activation=st.sampled_from(["relu", "prelu", "dice"]),
    batch_norm=st.booleans(),
)


@settings(deadline=None)
@given(configs, st.integers(1, 9), st.integers(0, 20), st.integers(0, 2**16))
def test_logits_are_those_of_the_module(config: DeepFMConfig, num_fields: int, num_rows: int, seed: int) -> None:
    module = make_module(config, num_fields, seed)
    fields = make_fields(num_rows, num_fields, config.embedding_dim, seed)
    expected = reference(module, fields)
    for head in make_heads(module):
        np.testing.assert_allclose(head.logits(pooled(fields, num_fields)), expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(("num_fields", "dim", "hidden"), SHAPES)
@pytest.mark.parametrize("num_rows", [0, 1, 5, 6, 7, 255, 256, 257, 600])
def test_logits_of_many_impressions_are_those_of_the_module(
    num_rows: int, num_fields: int, dim: int, hidden: tuple[int, ...]
) -> None:
    module = make_module(DeepFMConfig(embedding_dim=dim, hidden=hidden), num_fields)
    fields = make_fields(num_rows, num_fields, dim)
    expected = reference(module, fields)
    for head in make_heads(module):
        np.testing.assert_allclose(head.logits(pooled(fields, num_fields)), expected, rtol=2e-5, atol=2e-5)


@settings(deadline=None)
@given(configs, st.lists(st.booleans(), min_size=1, max_size=9), st.integers(0, 20), st.integers(0, 2**16))
def test_a_ranking_is_the_logits_of_whole_impressions(
    config: DeepFMConfig, is_context: list[bool], num_rows: int, seed: int
) -> None:
    num_fields = len(is_context)
    module = make_module(config, num_fields, seed)
    fields = make_fields(num_rows + 1, num_fields, config.embedding_dim, seed).reshape(num_rows + 1, num_fields, -1)
    fields[:, is_context] = fields[0, is_context]  # all impressions have the context of the first
    sides = [[i for i in range(num_fields) if is_context[i] == side] for side in (True, False)]
    places = np.random.default_rng(seed).integers(0, num_rows + 1, num_rows)
    expected = reference(module, fields.reshape(num_rows + 1, -1))[places]
    for head in make_heads(module):
        context = head.side_activations(sides[0], fields[:1, sides[0]].reshape(1, -1))
        candidates = head.side_activations(sides[1], fields[:, sides[1]].reshape(num_rows + 1, -1))
        np.testing.assert_allclose(head.rank(context, candidates, places), expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("activation", ["relu", "prelu", "dice"])
def test_large_logits_do_not_overflow(activation: Activation) -> None:
    module = make_module(DeepFMConfig(embedding_dim=2, hidden=(4,), activation=activation), 3)
    for head in make_heads(module):
        assert np.isfinite(head.logits(pooled(np.full((2, 9), 1e4, np.float32), 3))).all()


@pytest.mark.parametrize(("num_fields", "dim", "hidden"), SHAPES)
def test_what_is_not_finite_stays_within_its_impression(num_fields: int, dim: int, hidden: tuple[int, ...]) -> None:
    module = make_module(DeepFMConfig(embedding_dim=dim, hidden=hidden), num_fields)
    fields = make_fields(6, num_fields, dim)
    expected = reference(module, fields)[[0, 2, 3, 5]]
    fields[1, 0], fields[4] = np.nan, np.inf
    for head in make_heads(module):
        found = head.logits(pooled(fields, num_fields))
        np.testing.assert_allclose(found[[0, 2, 3, 5]], expected, rtol=2e-5, atol=2e-5)
        assert np.isnan(found[1])
        assert not np.isfinite(found[4])


@pytest.mark.parametrize(
    ("dim", "hidden", "dropout", "activation", "batch_norm"),
    list(itertools.product((1, 5), ((), (7,), (8, 3)), (0.0, 0.3), ("relu", "prelu", "dice"), (False, True))),
)
def test_the_declared_tensors_are_the_modules_own(
    dim: int, hidden: tuple[int, ...], dropout: float, activation: Activation, batch_norm: bool
) -> None:
    config = DeepFMConfig(
        embedding_dim=dim, hidden=hidden, dropout=dropout, activation=activation, batch_norm=batch_norm
    )
    state = DeepFMHead(config, 3).state_dict()
    own = {key: (str(value.dtype).removeprefix("torch."), tuple(value.shape)) for key, value in state.items()}
    assert head_tensors(config, 3) == own


def test_without_the_extension_the_head_is_the_one_in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    module = make_module(DeepFMConfig(embedding_dim=2, hidden=(4,)), 3)
    assert isinstance(module.frozen(), CompiledHead if WIDTHS else TorchHead)
    monkeypatch.setattr("models.network.head.find_spec", lambda _: None)
    state = torch.get_rng_state()
    assert isinstance(module.frozen(), TorchHead)
    assert torch.equal(torch.get_rng_state(), state)  # training's draws do not depend on how often it scores


def test_without_extension_and_torch_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    module = make_module(DeepFMConfig(embedding_dim=2, hidden=(4,)), 3)
    monkeypatch.setattr("models.network.head.find_spec", lambda _: None)
    monkeypatch.setitem(sys.modules, "models.network.torch_head", None)
    with pytest.raises(RuntimeError, match="install a C compiler"):
        make_head(module.config, 3, tensors_of(module))


@pytest.mark.parametrize("place", [-1, 2])
def test_a_candidate_that_is_not_there_is_an_error(place: int) -> None:
    for head in make_heads(make_module(DeepFMConfig(embedding_dim=2, hidden=(4,)), 2)):
        context = head.side_activations([0], make_fields(1, 1, 2))
        candidates = head.side_activations([1], make_fields(2, 1, 2))
        with pytest.raises(ValueError, match="expected places among 2 candidates"):
            head.rank(context, candidates, np.array([0, place]))
