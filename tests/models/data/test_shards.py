from pathlib import Path

import numpy as np
import pytest

from models.data.shards import Examples, Part, PartWriter, batches, deal, rows_in_epoch
from models.features.field_encoder import Column
from models.features.packed_rows import PackedRows, join


def make_rows(n: int, seed: int = 0, *, single: bool = False) -> PackedRows:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 4, n)
    sequence = Column(rng.integers(9, 20, int(lengths.sum())), lengths, "sqrtn")
    if single:
        sequence = Column(rng.integers(9, 20, n), None, "sqrtn")
    return PackedRows.of([Column(rng.integers(0, 9, n)), sequence])


def same(a: PackedRows, b: PackedRows) -> bool:
    if (a.lengths is None) != (b.lengths is None) or a.poolings != b.poolings:
        return False
    return np.array_equal(a.ids, b.ids) and (
        a.lengths is None or b.lengths is None or np.array_equal(a.lengths, b.lengths)
    )


@pytest.mark.parametrize("single", [True, False])
def test_selecting_packed_rows_equals_taking_those_of_a_batch(single: bool) -> None:
    rows = make_rows(50, single=single)
    batch, at = rows.unpack(), np.array([7, 3, 3, 49])
    selected, taken = rows.select(at, rows.row_starts()).unpack(), batch.take(at)
    for name in ("ids", "weights", "offsets"):
        a, b = getattr(selected, name), getattr(taken, name)
        assert a.dtype == b.dtype
        assert np.array_equal(a, b)


@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("on_disk", [True, False])
def test_a_part_gives_its_rows_in_the_order_of_their_places(tmp_path: Path, single: bool, on_disk: bool) -> None:
    rows, labels = make_rows(40, single=single), np.arange(40, dtype=np.float32)
    writer = PartWriter(tmp_path / "part" if on_disk else None, ("mean", "sqrtn"))
    order = np.random.default_rng(1).permutation(40)
    for piece in np.split(order, [5, 5, 30]):
        writer.append(rows.select(piece, rows.row_starts()), labels[piece], piece)
    loaded = writer.finish().load()
    assert same(loaded.rows, rows)
    assert np.array_equal(loaded.labels, labels)


def test_parts_with_and_without_sequences_are_joined() -> None:
    one, many = make_rows(5, single=True), make_rows(5)
    joined = join([one, many])
    assert same(joined.select(np.arange(5, 10), joined.row_starts()), many)
    assert len(joined) == 10


def make_shards(*sizes: int) -> list[Part]:
    first = np.cumsum([0, *sizes])
    return [
        Part.of(Examples(make_rows(n), np.arange(a, a + n, dtype=np.float32)))
        for a, n in zip(first, sizes, strict=False)
    ]


def visited(shards: list[Part], epoch: int = 1, done: int = 0) -> list[float]:
    return [x for _, labels in batches(shards, 8, 3, epoch, done) for x in labels.tolist()]


def test_an_epoch_visits_each_row_at_most_once_in_whole_batches() -> None:
    shards = make_shards(50, 30, 5)
    seen = visited(shards)
    assert len(seen) == len(set(seen)) == rows_in_epoch(shards, 8) == 48 + 24 + 5
    assert seen != visited(shards, epoch=2)
    assert seen == visited(shards)


@pytest.mark.parametrize("done", [0, 8, 40, 48, 56, 72])
def test_an_epoch_resumes_where_a_killed_run_stopped(done: int) -> None:
    shards = make_shards(50, 30)
    assert visited(shards, done=done) == visited(shards)[done:]


@pytest.mark.parametrize("on_disk", [True, False])
@pytest.mark.parametrize("sizes", [(7,), (5, 4, 6)])
def test_shards_to_which_a_part_was_dealt_hold_every_row_once(
    tmp_path: Path, sizes: tuple[int, ...], on_disk: bool
) -> None:
    parts = []
    for i, n in enumerate((*sizes, 11)):
        writer = PartWriter(tmp_path / f"{i}" if on_disk else None, ("mean", "sqrtn"))
        writer.append(make_rows(n, i), np.arange(n, dtype=np.float32) + 100 * i, np.arange(n))
        parts.append(writer.finish())
    *shards, more = parts
    dealt = deal(shards, more)
    assert [part.num_rows for part in dealt] == [len(part.load().labels) for part in dealt]
    assert max(p.num_rows - n for p, n in zip(dealt, sizes, strict=True)) <= -(-11 // len(sizes))  # evenly
    for part, shard in zip(dealt, shards, strict=True):
        own = np.arange(shard.num_rows)
        loaded = part.load()
        assert same(loaded.rows.select(own, loaded.rows.row_starts()), shard.load().rows)
    expected = {label: i for p in parts for i, label in enumerate(p.load().labels.tolist())}
    found = [label for p in dealt for label in p.load().labels.tolist()]
    assert sorted(found) == sorted(expected)
    for part in dealt:
        loaded = part.load()
        for i, label in enumerate(loaded.labels.tolist()):
            origin = parts[int(label) // 100].load().rows
            row, at = np.array([i]), np.array([expected[label]])
            assert same(loaded.rows.select(row, loaded.rows.row_starts()), origin.select(at, origin.row_starts()))
