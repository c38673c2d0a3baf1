"""A log read once: tokens as codes of one index per block, numbers as they are, in chunks, in memory or on disk.

Codes depend only on the spelling of tokens, so the log is parsed before anyone knows which rows are for training, which
tokens are kept and where bins end; all that is then arithmetic on small integers (`models.data.fitting`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from models.data.impressions import Chunk, Log, are_integers, comparable, decide_type, refuse_one_class
from models.data.token_index import NULL, TokenIndex
from models.features.vocabulary import SLICE
from models.schema.feature_schema import FeatureSchema, FieldSpec, TokenType

FEW_TOKENS = 1_000
"""If these are no integers, a field's tokens are none."""
GROUP = "\0group"
"""Key of the index and the codes of a group column that is no field."""


@dataclass(frozen=True)
class TokenChunk:
    """Some rows B of a log.

    Args:
        values: by field, the codes uint32 [N] of its tokens, or its numbers float64 [B], NaN where null.
        lengths: by sequence field, how many of the codes each row has, uint16 [B], at least one (`NULL`).
    """

    values: Mapping[str, NDArray[np.generic]]
    lengths: Mapping[str, NDArray[np.uint16]]

    def save(self, path: Path) -> None:
        """Write the chunk to one file."""
        values = {f"values {name}": array for name, array in self.values.items()}
        save_file(values | {f"lengths {name}": array for name, array in self.lengths.items()}, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        arrays = load_file(path)
        values, lengths = (
            {key.removeprefix(kind): array for key, array in arrays.items() if key.startswith(kind)}
            for kind in ("values ", "lengths ")
        )
        return cls(values, lengths)


@dataclass
class TokenLog:
    """A whole log, coded.

    Args:
        schema: of the log.
        folder: where chunks go when the log has more than ``rows_in_memory`` rows; ``None`` keeps it in memory.
        rows_in_memory: the bound.
    """

    schema: FeatureSchema
    folder: Path | None = None
    rows_in_memory: int = 0
    indexes: dict[str, TokenIndex] = field(default_factory=dict)
    stated: dict[str, TokenType] = field(default_factory=dict)
    chunks: list[TokenChunk | Path] = field(default_factory=list)
    chunk_rows: list[int] = field(default_factory=list)
    num_rows: int = 0
    is_on_disk: bool = False
    _labels: list[pl.Series] = field(default_factory=list)
    _times: list[pl.Series] = field(default_factory=list)

    def append(self, chunk: Chunk) -> None:
        """Code a chunk of canonical rows."""
        frame, self.stated = chunk.frame, chunk.stated
        columns = {f.name: (f, frame[f.name]) for f in self.schema.fields}
        values: dict[str, NDArray[np.generic]] = {}
        lengths: dict[str, NDArray[np.uint16]] = {}
        for name, (spec, series) in columns.items():
            if spec.kind == "numeric":
                values[name] = series.to_numpy().astype(np.float64, copy=False)
                continue
            if spec.kind == "sequence":
                series = series.list.tail(spec.max_length)
                lengths[name] = series.list.len().fill_null(0).clip(lower_bound=1).cast(pl.UInt16).to_numpy()
                series = series.explode(empty_as_null=True, keep_nulls=True)
            values[name] = self.index(spec.block).codes(series)
        group = self.schema.group
        if group is not None and group not in columns:
            values[GROUP] = self.index(GROUP).codes(frame[group].cast(pl.String))
        self._labels.append(frame[self.schema.label])
        if self.schema.split.column is not None:
            self._times.append(frame[self.schema.split.column])
        self.num_rows += frame.height
        self.chunk_rows.append(frame.height)
        self.chunks.append(TokenChunk(values, lengths))
        if self.folder is not None and self.num_rows > self.rows_in_memory:
            self._spill(self.folder)

    def _spill(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.is_on_disk = True
        for i, chunk in enumerate(self.chunks):
            if isinstance(chunk, TokenChunk):
                path = folder / f"chunk-{i}.safetensors"
                chunk.save(path)
                self.chunks[i] = path

    def index(self, block: str) -> TokenIndex:
        """Return a block's index."""
        return self.indexes.setdefault(block, TokenIndex())

    def labels(self) -> NDArray[np.int8]:
        """Return all labels in the order of the files, int8 [n].

        Raises:
            LogError: every label is the same.
        """
        labels = pl.concat(self._labels)
        refuse_one_class(labels)
        return labels.to_numpy()

    def times(self) -> pl.Series | None:
        """Return the split column in the order of the files, where the schema names one; the log forgets it."""
        times = pl.concat(self._times) if self._times else None
        self._times.clear()
        return None if times is None else comparable(times)

    def chunks_with(self, by_row: NDArray[Any]) -> Iterator[tuple[TokenChunk, NDArray[Any]]]:
        """Yield each chunk with its rows' part of ``by_row`` [n], an array over all rows."""
        first = 0
        for chunk, num_rows in zip(self.chunks, self.chunk_rows, strict=True):
            yield loaded(chunk), by_row[first : first + num_rows]
            first += num_rows

    def drain(self) -> Iterator[TokenChunk]:
        """Yield each chunk and forget it, so that memory or disk is free for what is made from it."""
        self.chunks.reverse()
        while self.chunks:
            chunk = self.chunks.pop()
            yield loaded(chunk)
            if isinstance(chunk, Path):
                chunk.unlink()

    def token_types(self, seen: Mapping[str, NDArray[np.bool_]]) -> dict[str, TokenType]:
        """Decide each field's type on the wire from the codes that it uses; errors as in `decide_type`."""
        types: dict[str, TokenType] = {}
        for spec in self.schema.fields:
            if spec.kind != "numeric":
                codes, index = np.flatnonzero(seen[spec.name][1:]) + 1, self.indexes[spec.block]
                tokens = index.tokens(codes[:FEW_TOKENS])
                if are_integers(tokens):  # else there is no need to look at all of them
                    tokens = index.tokens(codes)
                types[spec.name] = decide_type(spec, self.stated.get(spec.name), tokens)
        return types

    def frame(self, rows: NDArray[np.int64]) -> pl.DataFrame:
        """Return some rows' fields as a canonical frame, in the order of ``rows`` int64 [k]; an empty sequence is null."""
        parts: list[pl.DataFrame] = []
        wanted = np.full(self.num_rows, -1)
        wanted[rows] = np.arange(len(rows))
        for chunk, at in self.chunks_with(wanted):
            here = np.flatnonzero(at >= 0)
            columns = {f.name: self._decode(chunk, f, here) for f in self.schema.fields}
            parts.append(pl.DataFrame({**columns, "\0at": at[here]}))
        return pl.concat(parts).sort("\0at").drop("\0at")

    def _decode(self, chunk: TokenChunk, spec: FieldSpec, rows: NDArray[np.int64]) -> pl.Series:
        values = chunk.values[spec.name]
        if spec.kind == "numeric":
            return pl.Series(values[rows], dtype=pl.Float64).fill_nan(None)
        if spec.kind == "categorical":
            return pl.Series(self._spell(spec, values[rows]), dtype=pl.String)
        ends = np.cumsum(chunk.lengths[spec.name], dtype=np.int64)
        starts = ends - chunk.lengths[spec.name]
        lists = [self._spell(spec, values[starts[r] : ends[r]]) for r in rows]
        return pl.Series([None if tokens == [None] else tokens for tokens in lists], dtype=pl.List(pl.String))

    def _spell(self, spec: FieldSpec, codes: NDArray[np.generic]) -> list[str | None]:
        known = np.asarray(codes)[codes != NULL].astype(np.int64)
        tokens = iter(self.indexes[spec.block].tokens(known).to_list())
        return [None if code == NULL else next(tokens) for code in codes]


def index_log(log: Log, schema: FeatureSchema) -> TokenLog:
    """Code a log that is in memory."""
    coded = TokenLog(schema)
    coded.append(Chunk(log.frame, log.dtypes))
    return coded


def slices(tokens: pl.Series) -> Iterator[Sequence[str]]:
    """Yield tokens as Python strings, some at a time."""
    for start in range(0, len(tokens), SLICE):
        yield tokens[start : start + SLICE].to_list()


def loaded(chunk: TokenChunk | Path) -> TokenChunk:
    """Return a chunk that is in memory or on disk."""
    return TokenChunk.load(chunk) if isinstance(chunk, Path) else chunk
