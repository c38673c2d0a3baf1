"""Raw values → rows of one embedding table.

The reference that the compiled request reader must equal. It needs numpy alone, so that serving needs no data frames, and
the same schema and values give the same ids everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain

import numpy as np
from numpy.typing import NDArray

from models.features.derivation import Derivation
from models.features.field_encoder import Column, FieldEncoder, Ints, Value
from models.features.vocabulary import MISSING, NUM_SPECIAL, OOV, HashedVocabulary, TokenIds, Vocabulary, ranges
from models.schema.feature_schema import FeatureSchema, FieldSpec, FittedSchema, Pooling, Side

# The weights and offsets of most requests are slices of these. Read-only, since requests share them.
_ONES: NDArray[np.float32] = np.ones(1 << 17, np.float32)
_COUNTING: NDArray[np.int64] = np.arange(1 << 17)
for _shared in (_ONES, _COUNTING):
    _shared.setflags(write=False)


@dataclass(slots=True, eq=False)
class EncodedBatch:
    """B impressions as weighted bags of table rows; field f of impression b owns ids[offsets[b·F+f] : offsets[b·F+f+1]].

    Args:
        ids: int64 [N], rows of the one table of all fields.
        weights: float32 [N]; one for a single value, 1/n or 1/√n for each of n in a sequence, see `bag_weights`.
        offsets: int64 [B·F + 1], ascending from 0 to N; no bag is empty.
        num_fields: F.
    """

    ids: NDArray[np.int64]
    weights: NDArray[np.float32]
    offsets: NDArray[np.int64]
    num_fields: int

    @classmethod
    def single(cls, ids: NDArray[np.int64], num_fields: int) -> EncodedBatch:
        """Return the batch whose bags hold one row each: ids int64 [B·F], impression by impression."""
        n = len(ids)
        if n < len(_ONES):
            return cls(ids, _ONES[:n], _COUNTING[: n + 1], num_fields)
        return cls(ids, np.ones(n, np.float32), np.arange(n + 1), num_fields)

    @classmethod
    def of_bags(cls, ids: Ints, lengths: Ints | None, poolings: Sequence[Pooling]) -> EncodedBatch:
        """Return the batch of bags that follow each other in ``ids`` [N].

        Args:
            ids: rows of the table, of any integer type.
            lengths: [B, F], ids in each bag; ``None``: all hold one.
            poolings: of each field.
        """
        rows = ids.astype(np.int64, copy=False)
        if lengths is None:
            return cls.single(rows, len(poolings))
        offsets = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
        return cls(rows, bag_weights(lengths, poolings), offsets, len(poolings))

    @classmethod
    def join(cls, batches: Sequence[EncodedBatch]) -> EncodedBatch:
        """Return the impressions of one or more batches of the same fields, one after the other."""
        if len(batches) == 1:
            return batches[0]
        F = batches[0].num_fields
        ids = np.concatenate([batch.ids for batch in batches])
        if all(batch.is_single for batch in batches):
            return cls.single(ids, F)
        ends = accumulate(len(batch.ids) for batch in batches)
        starts = [batch.offsets[1:] + start for batch, start in zip(batches, chain((0,), ends), strict=False)]
        weights = np.concatenate([batch.weights for batch in batches])
        return cls(ids, weights, np.concatenate(([0], *starts)), F)

    def __len__(self) -> int:
        """Return the number of impressions B."""
        return (len(self.offsets) - 1) // self.num_fields

    @property
    def is_single(self) -> bool:
        """Whether every bag holds one row, so that ids is a plain matrix [B, F]."""
        return len(self.ids) == len(self.offsets) - 1

    def take(self, rows: NDArray[np.int64]) -> EncodedBatch:
        """Return the impressions ``rows`` int64 [b], in that order."""
        F = self.num_fields
        if self.is_single:
            ids = self.ids.reshape(-1, F)[rows].reshape(-1)
            return EncodedBatch.single(ids, F)
        starts, ends = self.offsets[:-1].reshape(-1, F)[rows], self.offsets[1:].reshape(-1, F)[rows]
        offsets = np.concatenate(([0], np.cumsum(ends - starts)))
        at = ranges(starts[:, 0], np.diff(offsets[::F]))
        return EncodedBatch(self.ids[at], self.weights[at], offsets, F)


class Encoder:
    """Encodes impressions, or one side of them.

    Args:
        fields: in the order of the columns that are encoded.
        log_schema: how the log, and so a request, writes times and lists.
    """

    def __init__(self, fields: Sequence[FieldEncoder], log_schema: FeatureSchema) -> None:
        self.fields = tuple(fields)
        self.log_schema = log_schema
        self.derivation = Derivation(self.fields, log_schema.split)
        self.missing_rows: NDArray[np.int64] = np.array([f.start + MISSING for f in self.fields], np.int64)
        self.oov_rows: NDArray[np.int64] = np.array([f.start + OOV for f in self.fields], np.int64)

    def encode(self, columns: Sequence[Sequence[Value]]) -> EncodedBatch:
        """Encode impressions given by column, one sequence of B values per field in the encoder's order.

        ``None`` and an empty list are MISSING, a token that training did not keep is OOV; no value of the right type is
        an error.
        """
        return assemble([field.encode(values) for field, values in zip(self.fields, columns, strict=True)])

    @property
    def names(self) -> list[str]:
        """The fields' names."""
        return [field.spec.name for field in self.fields]

    def count_special(self, batch: EncodedBatch) -> NDArray[np.int64]:
        """Return how many values of each field were MISSING and how many OOV, int64 [2, F]."""
        F = batch.num_fields
        lengths = np.diff(batch.offsets)
        fields = np.repeat(np.arange(len(lengths)) % F, lengths)
        local_ids = batch.ids - self.missing_rows[fields]
        return np.stack([np.bincount(fields[local_ids == special], minlength=F) for special in (MISSING, OOV)])

    def name_special(self, batch: EncodedBatch) -> tuple[dict[str, int], dict[str, int]]:
        """Return what `count_special` does by the field's name, of fields that have some."""
        missing, unseen = (
            {name: n for name, n in zip(self.names, counts.tolist(), strict=True) if n}
            for counts in self.count_special(batch)
        )
        return missing, unseen

    def side(self, side: Side) -> Encoder:
        """Return the encoder of the fields of one side."""
        return Encoder([f for f in self.fields if f.spec.side == side], self.log_schema)


class FeatureEncoder(Encoder):
    """Encodes impressions by a fitted schema and its vocabularies.

    Args:
        schema: the artifact's fitted schema.
        vocabularies: the vocabulary of each block that has one, by block name; hashed and numeric blocks have none.
    """

    def __init__(self, schema: FittedSchema, vocabularies: Mapping[str, Vocabulary]) -> None:
        self.schema = schema
        self.vocabularies = vocabularies
        ends = np.cumsum([NUM_SPECIAL + n for n in schema.num_tokens.values()])
        self.num_rows: int = int(ends[-1])
        self.block_starts: NDArray[np.int64] = np.concatenate(([0], ends[:-1]))
        self.start_of: dict[str, int] = dict(zip(schema.num_tokens, self.block_starts.tolist(), strict=True))
        token_ids = {f.name: _token_ids(f, vocabularies) for f in schema.features.fields if f.block == f.name}
        super().__init__(
            [
                FieldEncoder(
                    spec, fitted, self.start_of[block], token_ids[spec.block], schema.features.log.list_separator
                )
                for spec, fitted, block in zip(schema.features.fields, schema.fitted, schema.row_blocks, strict=True)
            ],
            schema.features,
        )
        self.vocabulary_of: dict[str, str] = {
            block: spec.block for spec, block in zip(schema.features.fields, schema.row_blocks, strict=True)
        }
        """Whose vocabulary the rows of each block are of, by block name."""

    def embedding_rows(self) -> NDArray[np.int64] | None:
        """Return the row whose embedding each row has, int64 [R]; ``None`` where each has its own."""
        rows = np.arange(self.num_rows)
        for block, owner in self.vocabulary_of.items():
            if block != owner:
                local = np.arange(NUM_SPECIAL + self.schema.num_tokens[block])
                rows[self.start_of[block] + local] = self.start_of[owner] + local
        return rows if len(self.vocabulary_of) > len(set(self.vocabulary_of.values())) else None

    def single_fields(self) -> dict[int, tuple[int, int]]:
        """Return the first table row and the one after the last of each field that is no sequence, by its position."""
        sizes = self.schema.num_tokens
        return {
            i: (f.start, f.start + NUM_SPECIAL + sizes[f.spec.block])
            for i, f in enumerate(self.fields)
            if f.spec.kind != "sequence"
        }


def bag_weights(lengths: Ints, poolings: Sequence[Pooling]) -> NDArray[np.float32]:
    """Return what the rows of bags are multiplied by, float32 [N], for ``lengths`` [B, F] that sum to N.

    Computed in float64 by operations that IEEE 754 rounds correctly, so that the compiled reader gives the same bits.

    >>> bag_weights(np.array([[1, 2, 4]]), ("mean", "mean", "sqrtn")).tolist()
    [1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
    """
    divisors = lengths.astype(np.float64)
    np.sqrt(divisors, out=divisors, where=np.array([pooling == "sqrtn" for pooling in poolings], np.bool_))
    return np.repeat((1.0 / divisors).astype(np.float32), lengths.reshape(-1))


def assemble(columns: Sequence[Column]) -> EncodedBatch:
    """Interleave F encoded columns of B impressions each into one batch, impression by impression."""
    return EncodedBatch.of_bags(*interleave(columns), [column.pooling for column in columns])


def interleave(columns: Sequence[Column]) -> tuple[Ints, Ints | None]:
    """Return the ids [N] of F columns, impression by impression, and the bags' lengths [B, F], types as in the columns."""
    if all(c.lengths is None for c in columns):
        return np.stack([c.ids for c in columns], axis=1).reshape(-1), None
    by_field = [np.ones(len(c.ids), np.uint16) if c.lengths is None else c.lengths for c in columns]
    lengths: Ints = np.stack(by_field, axis=1)
    starts = np.cumsum(lengths, dtype=np.int64).reshape(lengths.shape) - lengths
    ids = np.empty(lengths.sum(dtype=np.int64), columns[0].ids.dtype)
    for f, column in enumerate(columns):
        ids[starts[:, f] if column.lengths is None else ranges(starts[:, f], column.lengths)] = column.ids
    return ids, lengths


def _token_ids(owner: FieldSpec, vocabularies: Mapping[str, Vocabulary]) -> TokenIds | None:
    if owner.kind == "numeric":
        return None
    return vocabularies[owner.name] if owner.buckets is None else HashedVocabulary(owner.buckets)
