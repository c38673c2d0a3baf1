"""A log is prepared to the same result in memory and on disk."""

from pathlib import Path

import numpy as np
import pytest

from models.data.preparation import Prepared, prepare
from tests.making import SCHEMA, make_log


def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shard_rows: int, chunk_rows: int = 300) -> Prepared:
    monkeypatch.setattr("models.data.impressions.CHUNK_ROWS", chunk_rows)
    path = tmp_path / "log.parquet"
    if not path.exists():
        make_log().write_parquet(path)
    folder = tmp_path / f"shards-{shard_rows}"
    return prepare([str(path)], SCHEMA, 1, shard_rows, folder, lambda _: None)


def test_the_prepared_log_does_not_depend_on_disk_or_chunk_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = prepared(tmp_path, monkeypatch, 5_000, chunk_rows=5_000)
    disk = prepared(tmp_path, monkeypatch, 400)
    assert memory.encoder.schema == disk.encoder.schema
    assert memory.facts == disk.facts
    assert (memory.counts == disk.counts).all()
    assert (memory.missing == disk.missing).all()
    assert memory.golden.equals(disk.golden)
    for name, part in memory.held_out.items():
        other = disk.held_out[name]
        assert (part.part.load().rows.ids == other.part.load().rows.ids).all()
        assert (part.part.load().labels == other.part.load().labels).all()
        assert part.groups is not None
        assert other.groups is not None
        assert (part.groups == other.groups).all()
        assert (part.special == other.special).all()


def test_the_shards_of_a_long_log_are_equal_in_size_and_hold_each_training_row_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, disk = prepared(tmp_path, monkeypatch, 5_000), prepared(tmp_path, monkeypatch, 400)
    assert [s.num_rows for s in memory.train] == [1_600]
    assert [s.num_rows for s in disk.train] == [400] * 4

    def rows(p: Prepared) -> list[bytes]:
        batches = [s.load() for s in p.train]
        return sorted(
            e.rows.select(np.array([i]), e.rows.row_starts()).ids.tobytes() for e in batches for i in range(len(e.rows))
        )

    assert rows(memory) == rows(disk)
    assert (tmp_path / "shards-400").exists()
    assert not (tmp_path / "shards-5000").exists()
