"""Pooling of table rows, and scoring of long logs a chunk at a time."""

import hypothesis.strategies as st
import numpy as np
import torch
from hypothesis import given

from models.features.encoder import EncodedBatch, assemble
from models.features.field_encoder import Column
from models.features.packed_rows import PackedRows
from models.network.calibration import Calibration
from models.network.deepfm import DeepFMHead
from models.network.head import DeepFMConfig
from models.network.predictor import CHUNK, Predictor, pool, score_rows


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
def test_pooling_is_the_weighted_sum_of_each_bag(batch: EncodedBatch) -> None:
    table = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    bags = list(zip(batch.offsets[:-1], batch.offsets[1:], strict=True))
    expected = [batch.weights[start:end] @ table[batch.ids[start:end]] for start, end in bags]
    fields, firsts = pool(batch, table[batch.ids])
    np.testing.assert_allclose(fields, np.reshape(expected, (len(batch), -1)), rtol=1e-6, atol=1e-6)
    assert firsts.tolist() == [int(batch.ids[start]) for start, _ in bags]


def test_a_log_is_scored_in_chunks_as_it_is_whole() -> None:
    torch.manual_seed(0)
    predictor = Predictor(DeepFMHead(DeepFMConfig(embedding_dim=2, hidden=(4,)), 2).frozen(), Calibration())
    rng = np.random.default_rng(0)
    batch = assemble([Column(rng.integers(0, 20, CHUNK + 10)), Column(rng.integers(0, 20, CHUNK + 10))])
    table = rng.normal(size=(20, 3)).astype(np.float32)
    whole = predictor.logits(batch, table[batch.ids])
    np.testing.assert_array_equal(score_rows(predictor, PackedRows.of(batch), table), whole)
    assert score_rows(predictor, PackedRows.of(batch.take(np.arange(0))), table).shape == (0,)
