"""The numpy head against the torch module it was frozen from, and against its own declaration of tensors."""

import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given

from models.features.encoder import EncodedBatch, assemble
from models.features.field_encoder import Column
from models.network.calibration import Calibration
from models.network.deepfm import DeepFMHead, batch_tensors
from models.network.deepfm import pool as pool_in_torch
from models.network.head import Activation, DeepFMConfig, Pooled, head_tensors
from models.network.predictor import CHUNK, Predictor, pool

CONFIGS = [
    DeepFMConfig(embedding_dim=E, hidden=hidden, dropout=dropout, activation=activation, batch_norm=batch_norm)
    for E, hidden, dropout, activation, batch_norm in itertools.product(
        (1, 5), ((), (7,), (8, 3)), (0.0, 0.3), ("relu", "prelu", "dice"), (False, True)
    )
]


def make_module(config: DeepFMConfig, num_fields: int) -> DeepFMHead:
    """Return a module with everything away from its initial value, running statistics included."""
    torch.manual_seed(0)
    head = DeepFMHead(config, num_fields)
    for parameter in head.parameters():
        parameter.data = torch.randn_like(parameter)
    for _ in range(3):
        head(torch.randn(64, num_fields, config.embedding_dim + 1) * 2 + 1)
    return head.eval()


def name_of(config: DeepFMConfig) -> str:
    parts = (config.embedding_dim, config.hidden, config.dropout, config.activation, config.batch_norm)
    return "-".join(map(str, parts))


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_the_frozen_head_is_the_torch_module(config: DeepFMConfig) -> None:
    module = make_module(config, num_fields=4)
    x = torch.randn(50, 4, config.embedding_dim + 1)
    with torch.no_grad():
        expected = module.double()(x.double()).numpy()
    head = module.float().frozen()
    for num_rows in (1, 2, 3, 4, 50):
        found = head.logits(Pooled(x[:num_rows].numpy().reshape(num_rows, -1), np.arange(4 * num_rows)))
        np.testing.assert_allclose(found, expected[:num_rows], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_the_declared_tensors_are_the_modules_own(config: DeepFMConfig) -> None:
    state = DeepFMHead(config, 3).state_dict()
    own = {key: (str(value.dtype).removeprefix("torch."), tuple(value.shape)) for key, value in state.items()}
    assert head_tensors(config, 3) == own


@pytest.mark.parametrize("activation", ["relu", "prelu", "dice"])
def test_large_logits_do_not_overflow(activation: Activation) -> None:
    head = make_module(DeepFMConfig(embedding_dim=2, hidden=(4,), activation=activation), 3).frozen()
    assert np.isfinite(head.logits(Pooled(np.full((2, 9), 1e4, np.float32), np.arange(6)))).all()


@st.composite
def batches(draw: st.DrawFn) -> EncodedBatch:
    B = draw(st.integers(1, 6))
    lengths = np.array(draw(st.lists(st.integers(1, 4), min_size=B, max_size=B)))
    single = draw(st.booleans())
    columns = [Column(np.array(draw(st.lists(st.integers(0, 9), min_size=B, max_size=B)))) for _ in range(2)]
    if not single:
        ids = draw(st.lists(st.integers(0, 9), min_size=int(lengths.sum()), max_size=int(lengths.sum())))
        columns.insert(1, Column(np.array(ids), lengths))
    return assemble(columns)


@given(batches())
def test_pooling_equals_that_of_training(batch: EncodedBatch) -> None:
    table = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    ids, weights, offsets = batch_tensors(batch)
    expected = pool_in_torch(torch.from_numpy(table), ids, weights, offsets, batch.num_fields)
    fields, firsts = pool(batch, table[batch.ids])
    np.testing.assert_allclose(fields, expected.numpy().reshape(len(batch), -1), rtol=1e-6, atol=1e-6)
    assert firsts.tolist() == [int(batch.ids[start]) for start in batch.offsets[:-1]]


def test_a_table_is_scored_in_chunks_as_it_is_whole() -> None:
    config = DeepFMConfig(embedding_dim=2, hidden=(4,))
    predictor = Predictor(make_module(config, 2).frozen(), Calibration())
    rng = np.random.default_rng(0)
    n = CHUNK + 10
    batch = assemble([Column(rng.integers(0, 20, n)), Column(rng.integers(0, 20, n))])
    table = rng.normal(size=(20, 3)).astype(np.float32)
    np.testing.assert_allclose(
        predictor.score_table(batch, table), predictor.logits(batch, table[batch.ids]), atol=1e-6
    )
    assert predictor.score_table(batch.take(np.arange(0)), table).shape == (0,)
