"""The encoding pass: encodes a token log, hands each row to its part, and counts what the report says about the parts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.data.chunk_encoder import ChunkEncoder
from models.data.shards import Part, PartWriter
from models.data.split import Parts
from models.data.token_index import NULL
from models.data.token_log import GROUP, TokenChunk, TokenLog
from models.features.encoder import FeatureEncoder
from models.features.packed_rows import PackedRows


@dataclass(frozen=True)
class HeldOut:
    """A part that the model does not learn from, oldest rows first.

    Args:
        part: the examples.
        groups: code of each row's group, int64 [B], if the schema names a group column.
        segments: by segment field, the code of each row's value int64 [B], and the spelling of each code.
        special: number of values of each field that were MISSING and that were OOV, int64 [2, F].
        num_values: number of values of each field, int64 [F].
        counts: how often the rows hold each table row, int64 [R].
    """

    part: Part
    groups: NDArray[np.int64] | None
    segments: Mapping[str, tuple[NDArray[np.int64], list[str]]]
    special: NDArray[np.int64]
    num_values: NDArray[np.int64]
    counts: NDArray[np.int64]


class PartEncoder:
    """Encodes a log once, in the order of its files.

    Training rows go to one part in memory, or to several on disk of about ``shard_rows`` random rows each.

    Args:
        log: emptied by `run`.
        encoder: fitted to the training rows.
        parts: the row numbers of each part.
        labels: of all rows, in the order of the files.
        seed: of the assignment to shards.
        shard_rows: rows of a shard.
    """

    def __init__(
        self, log: TokenLog, encoder: FeatureEncoder, parts: Parts, labels: NDArray[np.int8], seed: int, shard_rows: int
    ) -> None:
        self._log, self._encoder, self._labels = log, encoder, labels
        folder = log.folder if log.is_on_disk else None
        F, num_train = len(encoder.fields), len(parts.train)
        num_shards = 1 if folder is None else max(1, -(-num_train // shard_rows))
        shards = np.arange(num_train) * num_shards // max(num_train, 1)
        if num_shards > 1:
            shards = np.random.default_rng([seed, num_shards]).permutation(shards)
        names = [*(f"train-{k}" for k in range(num_shards)), "validation", "test"]
        poolings = tuple(field.pooling for field in encoder.fields)
        self._writers = [PartWriter(None if folder is None else folder / name, poolings) for name in names]
        self._part_of_writer = [*["train"] * num_shards, "validation", "test"]
        self._writer_of = np.empty(log.num_rows, np.int32)  # by row
        self._place_of = np.empty(log.num_rows, np.int64)  # by row, its position in its part
        for rows, writer in ((parts.train, shards), (parts.validation, num_shards), (parts.test, num_shards + 1)):
            self._writer_of[rows] = writer
            self._place_of[rows] = np.arange(len(rows))
        self.counts = {name: np.zeros(encoder.num_rows, np.int64) for name in parts.by_name}
        self.special = {name: np.zeros((2, F), np.int64) for name in parts.by_name}
        self._num_values = {name: np.zeros(F, np.int64) for name in parts.by_name}
        # Codes of the columns that the report groups by, and the places of their rows, of the held-out parts.
        block_of = {f.name: f.block for f in log.schema.fields}
        group = log.schema.group
        columns = {} if group is None else {GROUP: group if group in block_of else GROUP}
        self._columns = columns | {name: name for name in log.schema.segments}
        self._block_of = block_of
        self._codes: dict[str, list[dict[str, NDArray[np.int64]]]] = {"validation": [], "test": []}
        self._places: dict[str, list[NDArray[np.int64]]] = {"validation": [], "test": []}
        self._digests = [hashlib.sha256() for _ in range(3)]

    def run(self) -> None:
        """Encode every chunk of the log and free it."""
        chunk_encoder = ChunkEncoder(self._encoder, self._log)
        first = 0
        for chunk in self._log.drain():
            encoded = chunk_encoder.encode(chunk)
            here = slice(first, first + len(encoded))
            first += len(encoded)
            labels, places, writer_of = self._labels[here], self._place_of[here], self._writer_of[here]
            arrays = (encoded.ids, np.empty(0) if encoded.lengths is None else encoded.lengths, labels)
            for digest, array in zip(self._digests, arrays, strict=True):
                digest.update(array.tobytes())
            starts = encoded.row_starts()
            for k in np.unique(writer_of).tolist():
                rows = np.flatnonzero(writer_of == k)
                selected, name = encoded.select(rows, starts), self._part_of_writer[k]
                self._writers[k].append(selected, labels[rows].astype(np.float32), places[rows])
                self._count(name, selected)
                if name != "train":
                    self._note(name, chunk, rows, places[rows])

    def _count(self, name: str, rows: PackedRows) -> None:
        batch = rows.unpack()
        self.special[name] += self._encoder.count_special(batch)
        self._num_values[name] += np.diff(batch.offsets).reshape(-1, batch.num_fields).sum(axis=0)
        np.add.at(self.counts[name], batch.ids, 1)  # bincount would allocate an array of all table rows per chunk

    def _note(self, name: str, chunk: TokenChunk, rows: NDArray[np.int64], places: NDArray[np.int64]) -> None:
        codes = {key: chunk.values[column][rows].astype(np.int64) for key, column in self._columns.items()}
        self._codes[name].append(codes)
        self._places[name].append(places)

    def train(self) -> tuple[Part, ...]:
        """Return the shards of the training rows."""
        return tuple(w.finish() for w, name in zip(self._writers, self._part_of_writer, strict=True) if name == "train")

    def held_out(self, name: str) -> HeldOut:
        """Return the part ``validation`` or ``test``."""
        order = np.concatenate(self._places[name]).argsort()
        codes = {key: np.concatenate([c[key] for c in self._codes[name]])[order] for key in self._columns}
        groups = codes.pop(GROUP, None)
        segments = {}
        for key, values in codes.items():
            distinct, at = np.unique(values, return_inverse=True)
            known = self._log.indexes[self._block_of[key]].tokens(distinct[distinct != NULL]).to_list()
            segments[key] = (at, [*(["(missing)"] if NULL in distinct else []), *known])
        return HeldOut(
            part=self._writers[self._part_of_writer.index(name)].finish(),
            groups=None if groups is None else _by_appearance(groups),
            segments=segments,
            special=self.special[name],
            num_values=self._num_values[name],
            counts=self.counts[name],
        )

    def digest(self) -> str:
        """Return the SHA-256 of the encoded rows and labels in the order of the files."""
        return hashlib.sha256(b"".join(d.digest() for d in self._digests)).hexdigest()


def _by_appearance(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    # Codes depend on the sizes of the log's chunks; renumbered in order of first appearance, they do not.
    _, first, at = np.unique(codes, return_index=True, return_inverse=True)
    number = np.empty(len(first), np.int64)
    number[first.argsort()] = np.arange(len(first))
    numbered: NDArray[np.int64] = number[at]
    return numbered
