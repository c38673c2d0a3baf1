"""Pooling of table rows, here as in training, and scoring of long logs a chunk at a time."""

import hypothesis.strategies as st
import numpy as np
import torch
from hypothesis import given

from models.features.encoder import assemble
from models.features.field_encoder import Column
from models.features.packed_rows import PackedRows
from models.network.calibration import Calibration
from models.network.deepfm import Bags, DeepFMHead
from models.network.deepfm import pool as torch_pool
from models.network.head import DeepFMConfig
from models.network.predictor import CHUNK, Predictor, pool, score_rows


@st.composite
def columns(draw: st.DrawFn) -> list[Column]:
    B = draw(st.integers(1, 6))
    lengths = np.array(draw(st.lists(st.integers(1, 4), min_size=B, max_size=B)))
    single = draw(st.booleans())
    columns = [Column(np.array(draw(st.lists(st.integers(0, 9), min_size=B, max_size=B)))) for _ in range(2)]
    if not single:
        ids = draw(st.lists(st.integers(0, 9), min_size=int(lengths.sum()), max_size=int(lengths.sum())))
        columns.insert(1, Column(np.array(ids), lengths, draw(st.sampled_from(["mean", "sqrtn"]))))
    return columns


@given(columns())
def test_pooling_is_the_sum_of_each_bags_rows_by_its_length_or_the_root_of_it(columns: list[Column]) -> None:
    table = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    packed, batch = PackedRows.of(columns), assemble(columns)
    for name in ("ids", "weights", "offsets"):
        np.testing.assert_array_equal(getattr(packed.unpack(), name), getattr(batch, name))
    powers = [{"mean": 1.0, "sqrtn": 0.5}[column.pooling] for column in columns] * len(batch)
    bags = [batch.ids[start:end] for start, end in zip(batch.offsets, batch.offsets[1:], strict=False)]
    expected = [table[bag].sum(axis=0) / len(bag) ** power for bag, power in zip(bags, powers, strict=True)]
    fields, firsts = pool(batch, table[batch.ids])
    np.testing.assert_allclose(fields, np.reshape(expected, (len(batch), -1)), rtol=1e-5, atol=1e-6)
    assert firsts.tolist() == [int(bag[0]) for bag in bags]
    lengths, weights = torch.from_numpy(np.diff(batch.offsets)), torch.from_numpy(packed.weights())
    trained = torch_pool(torch.from_numpy(table), Bags(torch.from_numpy(packed.ids), len(columns), lengths, weights))
    np.testing.assert_allclose(trained.flatten(1), fields, rtol=1e-5, atol=1e-6)


def test_a_log_is_scored_in_chunks_as_it_is_whole() -> None:
    torch.manual_seed(0)
    predictor = Predictor(DeepFMHead(DeepFMConfig(embedding_dim=2, hidden=(4,)), 2).frozen(), Calibration())
    rng = np.random.default_rng(0)
    rows = PackedRows.of([Column(rng.integers(0, 20, CHUNK + 10)), Column(rng.integers(0, 20, CHUNK + 10))])
    batch = rows.unpack()
    table = rng.normal(size=(20, 3)).astype(np.float32)
    whole = predictor.logits(batch, table[batch.ids])
    np.testing.assert_array_equal(score_rows(predictor, rows, table), whole)
    assert score_rows(predictor, rows.select(np.arange(0), rows.row_starts()), table).shape == (0,)
