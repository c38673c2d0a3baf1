"""Learns a schema's encoding from the training rows of a coded log, and encodes chunks of it.

Each token that is kept is looked up once in the log's index; the rest is integer arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.artifact.artifact import Artifact
from models.data.columns import count_codes, fill_bins, fill_rows
from models.data.impressions import Chunk, Log
from models.data.token_index import NULL, TokenIndex
from models.data.token_log import TokenChunk, TokenLog, index_log, loaded, slices
from models.data.warm_start import register_tokens
from models.errors import SchemaError
from models.features.encoder import EncodedBatch, FeatureEncoder
from models.features.field_encoder import FieldEncoder, wire_value
from models.features.packed_rows import PackedRows
from models.features.vocabulary import MISSING, NUM_SPECIAL, OOV, Vocabulary
from models.schema.feature_schema import FeatureSchema, FieldSpec, FittedField, FittedSchema, TokenType

MAX_NUMBERS = 1_000_000
"""Bins are placed by so many numbers of a field, evenly spaced over the training rows."""
MAX_TABLE_ROWS = 2**31 - 1

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Tally:
    """What one pass over a coded log counts.

    Args:
        counts: by field with tokens, how often the training rows hold each code, int64 [codes].
        seen: by field with tokens, which codes any row holds, bool [codes].
        numbers: by numeric field, numbers of training rows, float64; without nulls.
    """

    counts: dict[str, Counts]
    seen: dict[str, NDArray[np.bool_]]
    numbers: dict[str, NDArray[np.float64]]


def tally(log: TokenLog, train_rows: NDArray[np.int64]) -> Tally:
    """Count a log's codes and collect its numbers; ``train_rows`` int64 are row numbers in the order of the files."""
    is_train = np.zeros(log.num_rows, np.bool_)
    is_train[train_rows] = True
    is_sampled = np.zeros(log.num_rows, np.bool_)
    is_sampled[train_rows[:: -(-len(train_rows) // MAX_NUMBERS)]] = True
    fields = log.schema.fields
    sizes = {f.name: len(log.indexes[f.block]) for f in fields if f.kind != "numeric"}
    counts = {name: np.zeros(size, np.int64) for name, size in sizes.items()}
    seen = {name: np.zeros(size, np.bool_) for name, size in sizes.items()}
    numbers: dict[str, list[NDArray[np.float64]]] = {f.name: [] for f in fields if f.kind == "numeric"}
    masks = np.stack([is_train, is_sampled], axis=1)
    for chunk, mask in log.chunks_with(masks):
        in_train, sampled = mask[:, 0].copy(), np.flatnonzero(mask[:, 1])
        for name, codes in chunk.values.items():
            if name in numbers:
                x = codes.view(np.float64)
                numbers[name].append(x if len(sampled) == len(x) else x[sampled])
            elif name in counts:
                counted = in_train if name not in chunk.lengths else np.repeat(in_train, chunk.lengths[name])
                count_codes(codes.view(np.uint32), counted, counts[name], seen[name])
    return Tally(counts, seen, {name: _without_nulls(parts) for name, parts in numbers.items()})


def fit_token_log(log: TokenLog, train_rows: NDArray[np.int64], artifact: Artifact | None = None) -> FeatureEncoder:
    """Keep tokens and place bin boundaries by the training rows alone, or by what an ``artifact`` has and those rows.

    Raises:
        LogError: tokens that are said to be integers and are not.
        SchemaError: more rows than the table can have, or fields that are not the artifact's.
    """
    known = {} if artifact is None else register_tokens(artifact, log)
    found = tally(log, train_rows)
    dtypes = log.token_types(found.seen)
    vocabularies: dict[str, Vocabulary] = {}
    num_tokens: dict[str, int] = {}
    fitted: list[FittedField] = []
    for i, field in enumerate(log.schema.fields):
        if artifact is not None and dtypes.get(field.name) != artifact.schema.fitted[i].dtype:
            raise SchemaError(f"--init-from: the tokens of field {field.name!r} are not of the artifact's type")
        if field.kind == "numeric":
            x = found.numbers[field.name]
            boundaries = _boundaries(x, field.bins) if artifact is None else artifact.schema.fitted[i].boundaries
            num_tokens[field.name] = len(boundaries) + 1
            fitted.append(FittedField(dtype=None, boundaries=boundaries, example=_middle(x)))
            continue
        index, dtype = log.indexes[field.block], dtypes[field.name]
        if field.block == field.name and field.buckets is None:
            together = np.sum([found.counts[f.name] for f in log.schema.fields if f.block == field.name], axis=0)
            if field.name in known:
                codes, before = known[field.name]
                together[codes] += np.maximum(before, field.min_count)  # known tokens stay
            kept = _by_frequency(together, index, field.min_count)
            text = np.frombuffer(kept.str.join("").item().encode(), np.uint8)
            vocabularies[field.name] = Vocabulary.from_text(
                text, np.cumsum(kept.str.len_bytes().to_numpy(), dtype=np.int64)
            )
            num_tokens[field.name] = len(kept)
        elif field.block == field.name and field.buckets is not None:
            num_tokens[field.name] = field.buckets
        fitted.append(FittedField(dtype=dtype, example=_example(found.counts[field.name], index, field, dtype)))
    if sum(num_tokens.values()) + 2 * len(num_tokens) > MAX_TABLE_ROWS:
        raise SchemaError(
            f"the fields need more than {MAX_TABLE_ROWS:,} table rows: raise 'min_count' or set 'buckets'"
        )
    blocks = dict.fromkeys(f.block for f in log.schema.fields)
    ordered = {block: num_tokens[block] for block in blocks}
    return FeatureEncoder(FittedSchema(features=log.schema, fitted=tuple(fitted), num_tokens=ordered), vocabularies)


def fit_encoder(log: Log, schema: FeatureSchema, train_rows: NDArray[np.int64]) -> FeatureEncoder:
    """Fit an encoder on some rows of a log that is in memory."""
    return fit_token_log(index_log(log, schema), train_rows)


class ChunkEncoder:
    """Encodes the chunks of a coded log: tokens by one look-up table per block, from code to table row."""

    def __init__(self, encoder: FeatureEncoder, log: TokenLog) -> None:
        self.fields = encoder.fields
        self._rows: dict[str, NDArray[np.int32]] = {}
        for field in encoder.fields:
            block = field.spec.block
            if field.spec.kind != "numeric" and block not in self._rows:
                index, vocabulary = log.indexes[block], encoder.vocabularies.get(block)
                rows = np.full(len(index), field.start + OOV, np.int32)
                if vocabulary is None:
                    tokens = index.tokens(np.arange(1, len(index)))
                    rows[1:] = np.concatenate([np.empty(0), *map(field.find_all, slices(tokens))])
                else:  # the other way round, since most tokens of a log are rare and in no vocabulary
                    rows[index.find(vocabulary)] = field.start + NUM_SPECIAL + np.arange(len(vocabulary))
                rows[NULL] = field.start + MISSING  # where tokens that the log lacks have gone, too
                self._rows[block] = rows

    def encode(self, chunk: TokenChunk) -> PackedRows:
        """Encode B impressions."""
        F = len(self.fields)
        if not chunk.lengths:
            B = len(chunk.values[self.fields[0].spec.name])
            ids = np.empty(B * F, np.int32)
            for f, field in enumerate(self.fields):
                self._fill(field, chunk.values[field.spec.name], ids, f, F)
            return PackedRows(ids, None, F)
        columns = [np.empty(len(chunk.values[field.spec.name]), np.int32) for field in self.fields]
        for field, column in zip(self.fields, columns, strict=True):
            self._fill(field, chunk.values[field.spec.name], column, 0, 1)
        B = len(next(iter(chunk.lengths.values())))
        lengths = np.ones((B, F), np.uint16)
        for f, field in enumerate(self.fields):
            if field.spec.name in chunk.lengths:
                lengths[:, f] = chunk.lengths[field.spec.name]
        ends = np.cumsum(lengths, dtype=np.int64)
        ids = np.empty(ends[-1] if B else 0, np.int32)
        for f, column in enumerate(columns):
            sizes = lengths[:, f].astype(np.int64)
            starts = ends[f::F] - sizes
            own = np.cumsum(sizes) - sizes
            ids[np.arange(len(column)) + np.repeat(starts - own, sizes)] = column
        return PackedRows(ids, lengths, F)

    def _fill(
        self, field: FieldEncoder, values: NDArray[np.generic], to: NDArray[np.int32], first: int, step: int
    ) -> None:
        # Writes the table rows of one field's codes uint32 [n] or numbers float64 [n] to every step-th place from the first.
        if field.spec.kind == "numeric":
            fill_bins(field, values.view(np.float64), to, first, step)
        else:
            fill_rows(self._rows[field.spec.block], values.view(np.uint32), to, first, step)


def encode_frame(encoder: FeatureEncoder, frame: pl.DataFrame) -> EncodedBatch:
    """Encode all rows of a canonical frame; equal to ``encoder.encode`` on its values."""
    log = TokenLog(encoder.schema.features)
    log.append(Chunk(frame, {}))
    return ChunkEncoder(encoder, log).encode(loaded(log.chunks[0])).unpack()


def _by_frequency(counts: Counts, index: TokenIndex, min_count: int) -> pl.Series:
    codes = np.flatnonzero(counts >= min_count)
    codes = codes[codes != NULL]
    frame = pl.DataFrame({"n": counts[codes], "token": index.tokens(codes)})
    return frame.sort("n", "token", descending=[True, False])["token"]


def _boundaries(x: NDArray[np.float64], bins: int) -> tuple[float, ...]:
    """Place bins − 1 cut points at the quantiles; equal ones fall together, so a spike is a bin of its own."""
    x = np.sort(x[np.isfinite(x)])
    if not len(x):
        return ()
    places = np.ceil(np.linspace(0, 1, bins + 1)[1:-1] * (len(x) - 1)).astype(
        np.int64
    )  # of the quantiles, or the next higher
    cuts = np.unique(x[places])
    return tuple(float(c) for c in cuts if c > x[0])


def _middle(x: NDArray[np.float64]) -> float | None:
    middle = pl.Series(x).quantile(0.5, "nearest")
    return middle if middle is not None and np.isfinite(middle) else None


def _example(
    counts: Counts, index: TokenIndex, field: FieldSpec, dtype: TokenType
) -> int | float | str | tuple[int | str, ...] | None:
    third = np.partition(counts[1:], -3)[-3] if len(counts) > 3 else 0
    common = _by_frequency(counts, index, max(1, int(third)))
    tokens: Sequence[int | str] = [wire_value(t, dtype) for t in common.head(3).to_list()]
    if field.kind == "sequence":
        return tuple(tokens)
    return tokens[0] if tokens else None


def _without_nulls(parts: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    x = np.concatenate(parts)
    return x[~np.isnan(x)]
