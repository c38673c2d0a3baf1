"""Parts of an encoded log, in memory or in files, and the seeded order in which epochs read them.

The training rows of a log that fits in memory are one shard. Those of a larger log are distributed at random to several, so
that shuffling within a shard is nearly as good as shuffling all rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from models.features.packed_rows import PackedRows, join
from models.schema.feature_schema import Pooling


@dataclass(frozen=True)
class Examples:
    """B impressions and their labels 0 or 1, float32 [B]."""

    rows: PackedRows
    labels: NDArray[np.float32]


@dataclass(frozen=True)
class Part:
    """Examples in memory, or the files to read them from.

    Args:
        num_rows: number of examples.
        held: the examples, if they are in memory.
        files: the files otherwise, in the order of `DTYPES`.
        poolings: of the F fields of examples in files.
        more: rows of another part that follow.
    """

    num_rows: int
    held: Examples | None = None
    files: tuple[Path, ...] = ()
    poolings: tuple[Pooling, ...] = ()
    more: Share | None = None

    @classmethod
    def of(cls, examples: Examples) -> Part:
        """Hold examples in memory."""
        return cls(len(examples.rows), examples)

    def load(self) -> Examples:
        """Return the examples in the order of their places, followed by those of ``more``."""
        own = self._load_own()
        if self.more is None:
            return own
        more = self.more.load()
        return Examples(join([own.rows, more.rows]), np.concatenate([own.labels, more.labels]))

    def _load_own(self) -> Examples:
        if self.held is not None:
            return self.held
        ids, lengths, labels, places = (
            np.fromfile(path, dtype) for path, dtype in zip(self.files, DTYPES, strict=True)
        )
        by_field = lengths.reshape(-1, len(self.poolings)) if len(lengths) else None
        return _in_order(PackedRows(ids, by_field, self.poolings), labels, places)


@dataclass(frozen=True)
class Share:
    """Every K-th row of a part, from row k on."""

    part: Part
    k: int
    K: int

    @property
    def num_rows(self) -> int:
        """Number of these rows."""
        return len(range(self.k, self.part.num_rows, self.K))

    def load(self) -> Examples:
        """Return these rows in the order of their places."""
        whole, mine = self.part.load(), np.arange(self.k, self.part.num_rows, self.K)
        return Examples(whole.rows.select(mine, whole.rows.row_starts()), whole.labels[mine])


def deal(shards: Sequence[Part], part: Part) -> tuple[Part, ...]:
    """Add the rows of another part to the shards in turn, so that each shard stays a random sample of all rows."""
    longer = []
    for k, shard in enumerate(shards):
        share = Share(part, k, len(shards))
        longer.append(replace(shard, num_rows=shard.num_rows + share.num_rows, more=share))
    return tuple(longer)


DTYPES = (np.int32, np.uint16, np.float32, np.int64)
"""Types of a part's files: ids, lengths (empty when every bag holds one id), labels, places."""


class PartWriter:
    """Collects the examples of a part piece by piece, in any order.

    Args:
        stem: path of the files to write, without suffix; ``None`` keeps the part in memory.
        poolings: of the F fields.
    """

    def __init__(self, stem: Path | None, poolings: tuple[Pooling, ...]) -> None:
        self.num_rows = 0
        self._poolings = poolings
        self._files: list[BinaryIO] = [] if stem is None else [
            stem.with_suffix(suffix).open("wb") for suffix in (".ids", ".lengths", ".labels", ".places")
        ]  # fmt: skip
        self._pieces: list[tuple[PackedRows, NDArray[np.float32], NDArray[np.int64]]] = []

    def append(self, rows: PackedRows, labels: NDArray[np.float32], places: NDArray[np.int64]) -> None:
        """Add b examples; ``places`` int64 [b] are their positions in the part, all different."""
        self.num_rows += len(rows)
        if not self._files:
            self._pieces.append((rows, labels, places))
            return
        lengths = np.empty(0, np.uint16) if rows.lengths is None else rows.lengths
        arrays: tuple[NDArray[Any], ...] = (rows.ids, lengths, labels, places)
        for file, array, dtype in zip(self._files, arrays, DTYPES, strict=True):
            array.astype(dtype, copy=False).tofile(file)

    def finish(self) -> Part:
        """Return the part and close its files."""
        if self._files:
            for file in self._files:
                file.close()
            return Part(self.num_rows, None, tuple(Path(file.name) for file in self._files), self._poolings)
        if not self._pieces:
            return Part.of(Examples(PackedRows(np.empty(0, np.int32), None, self._poolings), np.empty(0, np.float32)))
        rows, labels, places = zip(*self._pieces, strict=True)
        self._pieces = []
        return Part.of(_in_order(join(rows), np.concatenate(labels), np.concatenate(places)))


def _in_order(rows: PackedRows, labels: NDArray[np.float32], places: NDArray[np.int64]) -> Examples:
    if (places[1:] > places[:-1]).all():
        return Examples(rows, labels)
    order = places.argsort()
    return Examples(rows.select(order, rows.row_starts()), labels[order])


def rows_in_epoch(shards: Sequence[Part], batch_size: int) -> int:
    """Return how many rows one epoch visits: whole batches only; the rows left out differ from epoch to epoch."""
    return sum(_rows_visited(shard, batch_size) for shard in shards)


def batches(
    shards: Sequence[Part], batch_size: int, seed: int, epoch: int, done: int = 0
) -> Iterator[tuple[PackedRows, NDArray[np.float32]]]:
    """Yield an epoch's batches with their labels float32 [b], in an order that depends on ``seed`` and ``epoch`` only.

    Args:
        shards: loaded one at a time.
        batch_size: b; a shard with fewer rows is one smaller batch.
        seed: of the run.
        epoch: from 1.
        done: rows of this epoch to skip, when a run resumes from a checkpoint.
    """
    for k in np.random.default_rng([seed, epoch, len(shards)]).permutation(len(shards)).tolist():
        size = _rows_visited(shards[k], batch_size)
        if done >= size:
            done -= size
            continue
        examples = shards[k].load()
        starts = examples.rows.row_starts()
        order = np.random.default_rng([seed, epoch, k]).permutation(len(examples.labels))[:size]
        for at in range(done, size, batch_size):
            rows = order[at : at + batch_size]
            yield examples.rows.select(rows, starts), examples.labels[rows]
        done = 0


def _rows_visited(shard: Part, batch_size: int) -> int:
    n = shard.num_rows
    return max(n // batch_size * batch_size, min(batch_size, n))
