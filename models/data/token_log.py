"""A log that has been read once: tokens as codes, numbers as they are, in chunks that are in memory or on disk.

Codes depend only on the spelling of tokens. So the files are parsed before it is known which rows are for training, which
tokens are kept and where bins end; all that follows is arithmetic on small integers (`models.data.fitting`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from models.data.impressions import TIME, refuse_one_class
from models.data.token_index import NULL, TokenIndex
from models.data.token_types import are_booleans, are_integers, decide_type
from models.schema.feature_schema import FeatureSchema, FieldSpec, TokenType

FEW_TOKENS = 1_000
"""If these are neither integers nor truth values, a field's tokens are strings, and the rest need not be looked at."""
GROUP = "\0group"
"""Key of the index and the codes of a group column that is not a field."""


@dataclass(frozen=True)
class TokenChunk:
    """Some rows B of a log.

    Args:
        values: by field, the codes uint32 [N] of its tokens, or its numbers float64 [B], NaN where null.
        lengths: by sequence field, the number of codes in each row, uint16 [B], at least one (`NULL`).
    """

    values: Mapping[str, NDArray[np.generic]]
    lengths: Mapping[str, NDArray[np.uint16]]

    def save(self, path: Path) -> None:
        """Write the chunk to one file."""
        values = {f"values {name}": array for name, array in self.values.items()}
        save_file(values | {f"lengths {name}": array for name, array in self.lengths.items()}, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file that `save` wrote."""
        arrays = load_file(path)
        values, lengths = (
            {key.removeprefix(kind): array for key, array in arrays.items() if key.startswith(kind)}
            for kind in ("values ", "lengths ")
        )
        return cls(values, lengths)


@dataclass
class TokenLog:
    """A whole log as token chunks.

    Args:
        schema: of the log.
        folder: where chunks are written when the log has more than ``rows_in_memory`` rows; ``None`` keeps all in memory.
        rows_in_memory: the limit.
    """

    schema: FeatureSchema
    folder: Path | None = None
    rows_in_memory: int = 0
    indexes: dict[str, TokenIndex] = field(default_factory=dict)
    chunks: list[TokenChunk | Path] = field(default_factory=list)
    chunk_rows: list[int] = field(default_factory=list)
    num_rows: int = 0
    is_on_disk: bool = False
    _labels: list[pl.Series] = field(default_factory=list)
    _times: list[pl.Series] = field(default_factory=list)

    def append(self, frame: pl.DataFrame) -> None:
        """Replace the tokens of a canonical frame by codes and keep it as a chunk."""
        values: dict[str, NDArray[np.generic]] = {}
        lengths: dict[str, NDArray[np.uint16]] = {}
        for spec in self.schema.fields:
            name, series = spec.name, frame[spec.name]
            if spec.kind == "numeric":
                values[name] = series.to_numpy().astype(np.float64, copy=False)
                continue
            if spec.kind == "sequence":
                series = series.list.tail(spec.max_length)
                lengths[name] = series.list.len().fill_null(0).clip(lower_bound=1).cast(pl.UInt16).to_numpy()
                series = series.explode(empty_as_null=True, keep_nulls=True)
            values[name] = self.index(spec.block).codes(series)
        group = self.schema.group
        if group is not None and group not in values:
            values[GROUP] = self.index(GROUP).codes(frame[group])
        self._labels.append(frame[self.schema.label])
        if self.schema.split.column is not None:
            self._times.append(frame[TIME])
        self.num_rows += frame.height
        self.chunk_rows.append(frame.height)
        self.chunks.append(TokenChunk(values, lengths))
        if self.folder is not None and self.num_rows > self.rows_in_memory:
            self._move_to_disk(self.folder)

    def _move_to_disk(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.is_on_disk = True
        for i, chunk in enumerate(self.chunks):
            if isinstance(chunk, TokenChunk):
                self.chunks[i] = path = folder / f"chunk-{i}.safetensors"
                chunk.save(path)

    def index(self, block: str) -> TokenIndex:
        """Return the index of a block's tokens."""
        return self.indexes.setdefault(block, TokenIndex())

    def labels(self) -> NDArray[np.int8]:
        """Return all labels in the order of the files, int8 [n].

        Raises:
            LogError: every label is the same.
        """
        labels = pl.concat(self._labels)
        refuse_one_class(labels)
        return labels.to_numpy()

    def take_times(self) -> pl.Series | None:
        """Return the time of each row in the order of the files and free them; ``None`` if the schema names no time."""
        times = pl.concat(self._times) if self._times else None
        self._times.clear()
        return times

    def chunks_with(self, by_row: NDArray[Any]) -> Iterator[tuple[TokenChunk, NDArray[Any]]]:
        """Yield each chunk with the part of ``by_row`` [n] that belongs to its rows."""
        first = 0
        for chunk, num_rows in zip(self.chunks, self.chunk_rows, strict=True):
            yield _loaded(chunk), by_row[first : first + num_rows]
            first += num_rows

    def chunks_holding(
        self, rows: NDArray[np.int64]
    ) -> Iterator[tuple[TokenChunk, NDArray[np.int64], NDArray[np.int64]]]:
        """Yield each chunk that holds some of the log's ``rows``, where it holds them, and their places among ``rows``."""
        places = np.full(self.num_rows, -1)
        places[rows] = np.arange(len(rows))
        for chunk, at in self.chunks_with(places):
            here = np.flatnonzero(at >= 0)
            if len(here):
                yield chunk, here, at[here]

    def drain(self) -> Iterator[TokenChunk]:
        """Yield each chunk and free its memory or its file."""
        self.chunks.reverse()
        while self.chunks:
            chunk = self.chunks.pop()
            yield _loaded(chunk)
            if isinstance(chunk, Path):
                chunk.unlink()

    def token_types(self, seen: Mapping[str, NDArray[np.bool_]]) -> dict[str, TokenType]:
        """Decide the type of each field's tokens from the codes that any row holds; errors as in `decide_type`.

        Args:
            seen: by field with tokens, whether any row holds each code, bool [codes].
        """
        types: dict[str, TokenType] = {}
        for spec in self.schema.fields:
            if spec.kind != "numeric":
                codes, index = np.flatnonzero(seen[spec.name][1:]) + 1, self.indexes[spec.block]
                tokens = index.tokens(codes[:FEW_TOKENS])
                if are_integers(tokens) or are_booleans(tokens):
                    tokens = index.tokens(codes)
                types[spec.name] = decide_type(spec, tokens)
        return types

    def frame(self, rows: NDArray[np.int64]) -> pl.DataFrame:
        """Return the fields of ``rows`` int64 [k] as a canonical frame, in that order; an empty sequence is null."""
        parts: list[pl.DataFrame] = []
        for chunk, here, places in self.chunks_holding(rows):
            columns = {f.name: self._decode(chunk, f, here) for f in self.schema.fields}
            parts.append(pl.DataFrame({**columns, "\0at": places}))
        return pl.concat(parts).sort("\0at").drop("\0at")

    def _decode(self, chunk: TokenChunk, spec: FieldSpec, rows: NDArray[np.int64]) -> pl.Series:
        values = chunk.values[spec.name]
        if spec.kind == "numeric":
            return pl.Series(values[rows], dtype=pl.Float64).fill_nan(None)
        if spec.kind == "categorical":
            return pl.Series(self._tokens(spec, values[rows]), dtype=pl.String)
        ends = np.cumsum(chunk.lengths[spec.name], dtype=np.int64)
        starts = ends - chunk.lengths[spec.name]
        lists = [self._tokens(spec, values[starts[r] : ends[r]]) for r in rows]
        return pl.Series([None if tokens == [None] else tokens for tokens in lists], dtype=pl.List(pl.String))

    def _tokens(self, spec: FieldSpec, codes: NDArray[np.generic]) -> list[str | None]:
        known = codes != NULL
        tokens = np.full(len(codes), None, object)
        tokens[known] = self.indexes[spec.block].tokens(codes[known].astype(np.int64)).to_list()
        return tokens.tolist()


def _loaded(chunk: TokenChunk | Path) -> TokenChunk:
    return TokenChunk.load(chunk) if isinstance(chunk, Path) else chunk
