"""From a log's files to parts that can be learnt from: read once, split, fit the encoder, encode. One path for all sizes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.artifact.artifact import Artifact
from models.artifact.golden_rows import NUM_GOLDEN
from models.artifact.manifest import DataFacts
from models.data.champion import Champion, check_readable, score_log
from models.data.fitting import ChunkEncoder, fit_token_log
from models.data.impressions import read_chunks
from models.data.log_files import find_files
from models.data.shards import Part, PartWriter
from models.data.split import Parts, split_rows
from models.data.token_index import NULL
from models.data.token_log import GROUP, TokenChunk, TokenLog
from models.data.warm_start import Inheritance, check_fits, inherit
from models.features.encoder import EncodedBatch, FeatureEncoder
from models.schema.feature_schema import FeatureSchema

Say = Callable[[str], None]


@dataclass(frozen=True)
class HeldOut:
    """A part that is not learnt from, oldest first.

    Args:
        part: the examples.
        groups: code of each row's group, int64 [B], where the schema names one.
        segments: by segment field, code of each row's value, and the spelling of each code.
        special: values of each field that were MISSING and that were OOV, int64 [2, F].
        num_values: values of each field, int64 [F].
        counts: how often the rows hold each table row, int64 [R].
    """

    part: Part
    groups: NDArray[np.int64] | None
    segments: Mapping[str, tuple[NDArray[np.int64], list[str]]]
    special: NDArray[np.int64]
    num_values: NDArray[np.int64]
    counts: NDArray[np.int64]


@dataclass(frozen=True)
class Prepared:
    """A log ready to learn from.

    Args:
        train: shards of the training rows.
        labels: of all training rows, float32, oldest first.
        counts: how often the training rows hold each table row, int64 [R].
        missing: training values of each field that were MISSING, int64 [F].
        held_out: ``validation`` and, where the split has one, ``test``.
        golden: canonical rows of the last part, to make golden rows of.
        inheritance: what an artifact leaves, where there is one to go on from.
        champion: a previous artifact's answers for the held-out parts, where there is one to compare with.
    """

    schema: FeatureSchema
    encoder: FeatureEncoder
    facts: DataFacts
    train: tuple[Part, ...]
    labels: NDArray[np.float32]
    counts: NDArray[np.int64]
    missing: NDArray[np.int64]
    held_out: Mapping[str, HeldOut]
    golden: pl.DataFrame
    inheritance: Inheritance | None
    champion: Champion | None


def prepare(
    data: Sequence[str],
    schema: FeatureSchema,
    seed: int,
    shard_rows: int,
    folder: Path,
    say: Say,
    artifact: Artifact | None = None,
    compare: Artifact | None = None,
) -> Prepared:
    """Read, split and encode a log; errors as in `models.pipeline.log_to_artifact.train`.

    Args:
        data: paths or glob patterns.
        schema: what the columns mean.
        seed: of a split at random, and of how rows are dealt to shards.
        shard_rows: a log with more rows than this is kept in files.
        folder: where those files go; made when needed, left for the caller to remove.
        say: called with one line for each stage.
        artifact: whose tokens, bins and weights the new model starts from.
        compare: a previous artifact that scores the held-out parts too.
    """
    if compare is not None:
        check_readable(compare, schema)
    if artifact is not None:
        check_fits(artifact, schema)
    log = TokenLog(schema, folder, shard_rows)
    for chunk in read_chunks(data, schema):
        log.append(chunk)
    labels, times = log.labels(), log.times()
    parts = split_rows(labels, times, schema, seed)
    window = {} if times is None else _window(times, parts)
    del times
    place = "on disk" if log.is_on_disk else "in memory"
    rows = ", ".join(f"{len(rows):,} {name}" for name, rows in parts.by_name.items())
    say(f"{log.num_rows:,} rows, {place}: {rows}")
    encoder = fit_token_log(log, parts.train, artifact)
    say(f"{len(encoder.fields)} fields, {encoder.num_rows:,} table rows")
    last = parts.test if len(parts.test) else parts.validation
    golden = log.frame(last[np.linspace(0, len(last) - 1, NUM_GOLDEN // 2).astype(np.int64)])
    names = ["validation", *(["test"] if len(parts.test) else [])]
    champion = None if compare is None else score_log(compare, log, {name: parts.by_name[name] for name in names})
    sorting = _Sorting(log, encoder, parts, labels, seed, shard_rows)
    sorting.run()
    facts = DataFacts(
        files=tuple(path.name for path in find_files(data)),
        rows={name: len(rows) for name, rows in parts.by_name.items()},
        window=window,
        digest=sorting.digest(),
    )
    return Prepared(
        schema=schema,
        encoder=encoder,
        facts=facts,
        train=tuple(w.finish() for w in sorting.shards),
        labels=labels[parts.train].astype(np.float32),
        counts=sorting.counts["train"],
        missing=sorting.special["train"][0],
        held_out={name: sorting.held_out(name) for name in names},
        golden=golden,
        inheritance=None if artifact is None else inherit(artifact, encoder),
        champion=champion,
    )


class _Sorting:
    """The encoding pass: takes each chunk of the coded log, encodes it and hands its rows to the parts they belong to."""

    def __init__(
        self, log: TokenLog, encoder: FeatureEncoder, parts: Parts, labels: NDArray[np.int8], seed: int, shard_rows: int
    ) -> None:
        self.log, self.encoder, self.labels = log, encoder, labels
        F, num_train = len(encoder.fields), len(parts.train)
        num_shards = max(1, -(-num_train // shard_rows)) if log.is_on_disk else 1
        folder = log.folder if log.is_on_disk else None
        stem = "{}".format if folder is None else str(folder / "{}").format
        names = [*(f"train-{k}" for k in range(num_shards)), "validation", "test"]
        writers = [PartWriter(None if folder is None else Path(stem(name)), F) for name in names]
        self.shards, self.rest = (
            writers[:num_shards],
            dict(zip(("validation", "test"), writers[num_shards:], strict=True)),
        )
        dealt = np.arange(num_train) * num_shards // max(num_train, 1)
        if num_shards > 1:
            dealt = np.random.default_rng([seed, num_shards]).permutation(dealt)
        self.writers = writers
        self.writer_of = np.empty(log.num_rows, np.int32)  # by row
        self.place_of = np.empty(log.num_rows, np.int64)  # by row, its place in its part
        for rows, writer in ((parts.train, dealt), (parts.validation, num_shards), (parts.test, num_shards + 1)):
            self.writer_of[rows] = writer
            self.place_of[rows] = np.arange(len(rows))
        self.counts = {name: np.zeros(encoder.num_rows, np.int64) for name in parts.by_name}
        self.special = {name: np.zeros((2, F), np.int64) for name in parts.by_name}
        self.num_values = {name: np.zeros(F, np.int64) for name in parts.by_name}
        self.codes: dict[str, dict[str, list[NDArray[np.int64]]]] = {name: {} for name in self.rest}
        self.places: dict[str, list[NDArray[np.int64]]] = {name: [] for name in self.rest}
        self._digests = [hashlib.sha256() for _ in range(3)]

    def run(self) -> None:
        """Empty the coded log into the parts."""
        chunk_encoder = ChunkEncoder(self.encoder, self.log)
        first = 0
        for chunk in self.log.drain():
            packed = chunk_encoder.encode(chunk)
            here = slice(first, first + len(packed))
            first += len(packed)
            arrays = (packed.ids, np.empty(0) if packed.lengths is None else packed.lengths, self.labels[here])
            for digest, array in zip(self._digests, arrays, strict=True):
                digest.update(array.tobytes())
            starts, writer_of = packed.row_starts(), self.writer_of[here]
            for k in np.unique(writer_of).tolist():
                rows = np.flatnonzero(writer_of == k)
                places = self.place_of[here][rows]
                self.writers[k].append(packed.select(rows, starts), self.labels[here][rows].astype(np.float32), places)
                if k >= len(self.shards):
                    self._note(self._name(k), chunk, rows, places)
            part_of = np.maximum(writer_of, len(self.shards) - 1)  # all shards as one
            for k in np.unique(part_of).tolist():
                self._count(self._name(k), packed.select(np.flatnonzero(part_of == k), starts).unpack())

    def _name(self, writer: int) -> str:
        return "train" if writer < len(self.shards) else ("validation", "test")[writer - len(self.shards)]

    def _count(self, name: str, batch: EncodedBatch) -> None:
        for counts, found in zip(self.special[name], self.encoder.count_special(batch), strict=True):
            for field, count in found.items():
                counts[field] += count
        self.num_values[name] += np.diff(batch.offsets).reshape(-1, batch.num_fields).sum(axis=0)
        np.add.at(self.counts[name], batch.ids, 1)  # bincount would go through all table rows

    def _note(self, name: str, chunk: TokenChunk, rows: NDArray[np.int64], places: NDArray[np.int64]) -> None:
        schema, field_names = self.log.schema, {f.name for f in self.log.schema.fields}
        columns = {s: s for s in schema.segments}
        if schema.group is not None:
            columns[GROUP] = schema.group if schema.group in field_names else GROUP
        for key, column in columns.items():
            self.codes[name].setdefault(key, []).append(chunk.values[column][rows].astype(np.int64))
        self.places[name].append(places)

    def held_out(self, name: str) -> HeldOut:
        """Return a part that is not learnt from, with what the report needs to know of its rows."""
        order = np.concatenate(self.places[name]).argsort()
        codes = {key: np.concatenate(pieces)[order] for key, pieces in self.codes[name].items()}
        groups = codes.pop(GROUP, None)
        block_of = {f.name: f.block for f in self.log.schema.fields}
        segments = {}
        for key, values in codes.items():
            distinct, at = np.unique(values, return_inverse=True)
            known = self.log.indexes[block_of[key]].tokens(distinct[distinct != NULL]).to_list()
            segments[key] = (at, [*(["(missing)"] if NULL in distinct else []), *known])
        return HeldOut(
            part=self.rest[name].finish(),
            groups=_by_appearance(groups),
            segments=segments,
            special=self.special[name],
            num_values=self.num_values[name],
            counts=self.counts[name],
        )

    def digest(self) -> str:
        """Return the SHA-256 of the encoded rows and labels in the order of the files."""
        return hashlib.sha256(b"".join(d.digest() for d in self._digests)).hexdigest()


def _window(times: pl.Series, parts: Parts) -> dict[str, tuple[str, str]]:
    ends = {name: (int(rows[0]), int(rows[-1])) for name, rows in parts.by_name.items() if len(rows)}
    return {name: (str(times[first]), str(times[last])) for name, (first, last) in ends.items()}


def _by_appearance(codes: NDArray[np.int64] | None) -> NDArray[np.int64] | None:
    # Codes depend on how the log was read; numbered as they appear, they are the same whatever the chunks.
    if codes is None:
        return None
    _, first, at = np.unique(codes, return_index=True, return_inverse=True)
    number = np.empty(len(first), np.int64)
    number[first.argsort()] = np.arange(len(first))
    numbered: NDArray[np.int64] = number[at]
    return numbered
