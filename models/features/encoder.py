"""Raw values → rows of one embedding table. The only encoder: training, golden rows, ``/predict`` and the report use it.

Needs numpy alone, so that serving needs no data frames. Pure: the same schema and values give the same ids everywhere.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from models.features.field_encoder import Column, FieldEncoder, Token, Value
from models.features.known_tokens import KnownTokens, salt_of
from models.features.vocabulary import MISSING, NUM_SPECIAL, OOV, HashedVocabulary, TokenIds, Vocabulary
from models.schema.feature_schema import FieldSpec, FittedSchema, Side

# Up to so many impressions are encoded value by value.
FEW_ROWS = 20

# Fewer numbers than these are counted one by one, which takes less than three calls of numpy.
FEW_NUMBERS = 50

# Of most requests the weights and offsets are slices of these; read-only, so that none can change another's.
_ONES: NDArray[np.float32] = np.ones(1 << 17, np.float32)
_COUNTING: NDArray[np.int64] = np.arange(1 << 17)
for _shared in (_ONES, _COUNTING):
    _shared.setflags(write=False)


@dataclass(slots=True, eq=False)
class EncodedBatch:
    """B impressions as weighted bags of table rows; field f of impression b owns ids[offsets[b·F+f] : offsets[b·F+f+1]].

    Args:
        ids: int64 [N], rows of the one table of all fields.
        weights: float32 [N]; one for a single value, 1/n for each of n in a sequence. They sum to 1 in each bag.
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
        at = _ranges(starts[:, 0], np.diff(offsets[::F]))
        return EncodedBatch(self.ids[at], self.weights[at], offsets, F)


class Encoder:
    """Encodes impressions, or one side of them.

    Args:
        fields: in the order of the columns that are encoded.
        known: the rows of tokens that were looked up before, shared by the encoders of a model.
    """

    def __init__(self, fields: Sequence[FieldEncoder], known: KnownTokens) -> None:
        self.fields = tuple(fields)
        self.missing_rows: NDArray[np.int64] = np.array([f.start + MISSING for f in self.fields], np.int64)
        self.oov_rows: NDArray[np.int64] = np.array([f.start + OOV for f in self.fields], np.int64)
        self._find_one = [f.quick_row_of for f in self.fields]
        self._sequences = [i for i, f in enumerate(self.fields) if f.spec.kind == "sequence"]
        self._numeric = [i for i, f in enumerate(self.fields) if f.spec.kind == "numeric"]
        self._known = known
        tokens = [i for i, f in enumerate(self.fields) if f.spec.kind != "numeric"]
        texts = [i for i in tokens if self.fields[i].dtype == "string"]
        self._num_texts = len(texts)
        self._tokens = texts + [i for i in tokens if self.fields[i].dtype == "integer"]
        self._salts: NDArray[np.int64] = np.array([salt_of(self.fields[i].block) for i in self._tokens], np.int64)

    def encode(self, columns: Sequence[Sequence[Value]]) -> EncodedBatch:
        """Encode impressions given by column, one sequence of B values per field in the encoder's order.

        ``None`` and an empty list are MISSING, a token that training did not keep is OOV; nothing here raises on a
        value of the right type.
        """
        if len(columns[0]) <= FEW_ROWS:
            return self._encode_few(columns)
        lists, lengths = list(columns), dict[int, NDArray[np.int64]]()
        for f in self._sequences:
            lists[f], lengths[f] = self.fields[f].flatten(columns[f])
        encoded = [np.empty(0, np.int64)] * len(lists)
        for f, rows in zip(self._tokens, self._rows_of([lists[f] for f in self._tokens]), strict=True):  # type: ignore[misc]
            encoded[f] = rows
        for f in self._numeric:
            encoded[f] = self.fields[f].encode_numbers(lists[f])  # type: ignore[arg-type]
        return assemble([Column(rows, lengths.get(f)) for f, rows in enumerate(encoded)])

    def _encode_few(self, columns: Sequence[Sequence[Value]]) -> EncodedBatch:
        # A look at each value costs less than what numpy costs to begin.
        if self._sequences:
            return assemble([field.encode(values) for field, values in zip(self.fields, columns, strict=True)])
        if len(columns[0]) == 1:
            rows = [find(values[0]) for find, values in zip(self._find_one, columns, strict=True)]
            if None in rows:
                rows = [field.row_of(values[0]) for field, values in zip(self.fields, columns, strict=True)]
            return EncodedBatch.single(np.array(rows, np.int64), len(rows))
        by_field = [list(map(find, values)) for find, values in zip(self._find_one, columns, strict=True)]
        for f, found in enumerate(by_field):
            if None in found:
                by_field[f] = list(map(self.fields[f].row_of, columns[f]))
        ids = np.array(list(chain.from_iterable(by_field)), np.int64)
        return EncodedBatch.single(ids.reshape(len(columns), -1).T.reshape(-1), len(columns))

    def _rows_of(self, lists: list[Sequence[Token]]) -> list[NDArray[np.int64]]:
        """Return the table rows of tokens, int64 [n] for each of the fields with tokens."""
        starts = list(accumulate(map(len, lists), initial=0))
        keys = self._known.keys(lists[: self._num_texts], lists[self._num_texts :], self._salts)  # type: ignore[arg-type]
        rows = self._known.rows(keys)
        for t, places in groupby((rows < 0).nonzero()[0].tolist(), lambda place: bisect_right(starts, place) - 1):
            at = list(places)
            field, tokens, start = self.fields[self._tokens[t]], lists[t], starts[t]
            rows[at] = found = field.find_all([tokens[place - start] for place in at])
            self._known.remember(field.block, keys[at], found, found - field.start)
        return [rows[start:end] for start, end in pairwise(starts)]

    def count_special(self, batch: EncodedBatch) -> tuple[dict[int, int], dict[int, int]]:
        """Return how many values of fields were MISSING and how many OOV, by the field's place; without those that had none."""
        F = batch.num_fields
        if batch.is_single:
            local = (batch.ids.reshape(-1, F) - self.missing_rows).reshape(-1)
            at = (local < NUM_SPECIAL).nonzero()[0]
            fields = at % F
        else:
            lengths = np.diff(batch.offsets)
            field_of = np.repeat(np.arange(len(lengths)) % F, lengths)
            local = batch.ids - self.missing_rows[field_of]
            at = (local < NUM_SPECIAL).nonzero()[0]
            fields = field_of[at]
        is_missing = local[at] == MISSING
        return _count(fields[is_missing]), _count(fields[~is_missing])

    def side(self, side: Side) -> Encoder:
        """Return the encoder of the fields of one side, which share what they remember with these."""
        return Encoder([f for f in self.fields if f.spec.side == side], self._known)


class FeatureEncoder(Encoder):
    """Encodes impressions by a fitted schema and its vocabularies.

    Args:
        schema: the artifact's fitted schema.
        vocabularies: the vocabulary of each block that has one, by block name; hashed and numeric blocks have none.
    """

    def __init__(self, schema: FittedSchema, vocabularies: Mapping[str, Vocabulary]) -> None:
        self.schema = schema
        self.vocabularies = vocabularies
        sizes = [NUM_SPECIAL + n for n in schema.num_tokens.values()]
        starts = np.cumsum([0, *sizes])
        self.num_rows: int = sum(sizes)
        self.block_starts: NDArray[np.int64] = starts[:-1]
        blocks = {
            block: (i, int(start)) for i, (block, start) in enumerate(zip(schema.num_tokens, starts, strict=False))
        }
        owners = {f.name: f for f in schema.features.fields}
        super().__init__(
            [
                FieldEncoder(spec, fitted, *blocks[spec.block], _token_ids(owners[spec.block], vocabularies))
                for spec, fitted in zip(schema.features.fields, schema.fitted, strict=True)
            ],
            KnownTokens([0 if owners[name].kind == "numeric" else n for name, n in schema.num_tokens.items()]),
        )

    def single_fields(self) -> dict[int, tuple[int, int]]:
        """Return the first table row and the one after the last of each field that is no sequence, by its position."""
        ends = [*self.block_starts.tolist()[1:], self.num_rows]
        return {i: (f.start, ends[f.block]) for i, f in enumerate(self.fields) if f.spec.kind != "sequence"}


def _count(numbers: NDArray[np.int64]) -> dict[int, int]:
    if len(numbers) < FEW_NUMBERS:
        return Counter(numbers.tolist())
    counts = np.bincount(numbers)
    found = counts.nonzero()[0]
    return dict(zip(found.tolist(), counts[found].tolist(), strict=True))


def assemble(columns: Sequence[Column]) -> EncodedBatch:
    """Interleave F encoded columns of B impressions each into one batch, impression by impression."""
    F = len(columns)
    if all(c.lengths is None for c in columns):
        ids = np.stack([c.ids for c in columns], axis=1).reshape(-1)
        return EncodedBatch.single(ids, F)
    B = next(len(c.ids) if c.lengths is None else len(c.lengths) for c in columns)
    lengths = np.ones((B, F), np.int64)
    for f, column in enumerate(columns):
        if column.lengths is not None:
            lengths[:, f] = column.lengths
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    ids = np.empty(offsets[-1], np.int64)
    for f, column in enumerate(columns):
        starts = offsets[f:-1:F]
        ids[starts if column.lengths is None else _ranges(starts, column.lengths)] = column.ids
    weights = np.repeat((1.0 / lengths).astype(np.float32).reshape(-1), lengths.reshape(-1))
    return EncodedBatch(ids, weights, offsets, F)


def _ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    # start, start + 1, …, start + length − 1 for each pair, one after the other.
    ends = np.cumsum(lengths)
    ranges: NDArray[np.int64] = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths)
    return ranges


def _token_ids(owner: FieldSpec, vocabularies: Mapping[str, Vocabulary]) -> TokenIds | None:
    if owner.kind == "numeric":
        return None
    return vocabularies[owner.name] if owner.buckets is None else HashedVocabulary(owner.buckets)
