"""Permutation importance against the slow way: shuffle one raw column and score everything again."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from models.artifact.artifact import Artifact
from models.data.chunk_encoder import encode_frame
from models.evaluation.importance import permutation_importance
from models.evaluation.metrics import Floats, log_losses
from models.features.packed_rows import PackedRows
from tests.making import SCHEMA, make_log

NAMES = [f.name for f in SCHEMA.fields]


def packed(artifact: Artifact, frame: pl.DataFrame) -> PackedRows:
    return encode_frame(artifact.encoder, frame)


def answers(artifact: Artifact, frame: pl.DataFrame) -> Floats:
    return artifact.predictor.probabilities(
        artifact.predictor.score_table(encode_frame(artifact.encoder, frame).unpack(), artifact.table)
    )


def test_it_is_the_rise_of_the_loss_when_one_raw_column_is_shuffled(artifact: Artifact) -> None:
    frame = make_log(300, seed=3)
    labels = frame["click"].to_numpy().astype(np.float32)
    found = permutation_importance(artifact.predictor, artifact.table, packed(artifact, frame), labels, NAMES, seed=4)
    before = log_losses(labels, answers(artifact, frame))
    rng = np.random.default_rng(4)
    expected = {}
    for name in NAMES:
        shuffled = frame.with_columns(frame[name].gather(rng.permutation(frame.height)))
        rises = log_losses(labels, answers(artifact, shuffled)) - before
        expected[name] = (rises.mean(), 1.96 * rises.std() / np.sqrt(len(rises)))
    assert [i.field for i in found] == sorted(NAMES, key=lambda name: -expected[name][0])
    for field, rise, error in found:
        assert rise == pytest.approx(expected[field][0], abs=1e-6)
        assert error == pytest.approx(expected[field][1], rel=1e-3, abs=1e-9)


def test_a_field_that_decides_alone_is_most_important_and_a_constant_one_has_none(artifact: Artifact) -> None:
    frame = make_log(400, seed=3).with_columns(pl.lit(None, pl.String).alias("site"))
    rows = packed(artifact, frame)
    table = np.zeros_like(artifact.table)
    price = artifact.encoder.fields[NAMES.index("price")].start
    bins = rows.unpack().take(np.arange(400)).ids[rows.unpack().offsets[NAMES.index("price") :: len(NAMES)][:400]]
    labels = (bins > price + 10).astype(np.float32)
    table[price : price + 2, -1] = -3.0
    table[price + 2 : price + 11, -1] = -3.0
    table[price + 11 :, -1] = 3.0
    found = permutation_importance(artifact.predictor, table, rows, labels, NAMES, seed=1)
    assert found[0].field == "price"
    assert found[0].rise > 0.5
    assert all(i.rise == i.error == 0 for i in found[1:])


def test_at_most_max_rows_are_used(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = make_log(500, seed=3)
    labels = frame["click"].to_numpy()
    monkeypatch.setattr("models.evaluation.importance.MAX_ROWS", 100)
    found = permutation_importance(artifact.predictor, artifact.table, packed(artifact, frame), labels, NAMES, 1)
    at = np.linspace(0, 499, 100).astype(np.int64)
    few = packed(artifact, frame[at])
    assert found == permutation_importance(artifact.predictor, artifact.table, few, labels[at], NAMES, 1)


def test_memory_is_bounded_too(artifact: Artifact, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    frame = make_log(50, seed=3)
    monkeypatch.setattr("models.evaluation.importance.MAX_NUMBERS", 1)
    rows = packed(artifact, frame)
    assert len(permutation_importance(artifact.predictor, artifact.table, rows, np.ones(50), NAMES, 1)) == len(NAMES)
