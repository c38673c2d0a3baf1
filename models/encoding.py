"""Raw values → rows of one embedding table. The only encoder: training, golden rows, ``/predict`` and the report use it.

Needs numpy alone, so that serving needs no data frames. Pure: the same schema and values give the same ids everywhere.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat

import numpy as np
from numpy.typing import NDArray

from models.schema import FieldSpec, FittedField, FittedSchema, Side
from models.vocabulary import MISSING, NUM_SPECIAL, OOV, HashedVocabulary, TokenIds, Vocabulary

Scalar = int | float | str
Value = Scalar | Sequence[int | str] | None

# Tokens below this local id are remembered by value in a dictionary: bounded, and the most frequent ones first.
NUM_REMEMBERED = 100_000

# Up to so many impressions a look at each value costs less than what numpy costs for each field.
FEW_ROWS = 24

# Fewer numbers than these are counted one by one, which takes less than three calls of numpy.
FEW_NUMBERS = 50

# Of most requests the weights and offsets are slices of these; read-only, so that none can change another's.
_ONES: NDArray[np.float32] = np.ones(1 << 17, np.float32)
_COUNTING: NDArray[np.int64] = np.arange(1 << 17)
for _shared in (_ONES, _COUNTING):
    _shared.setflags(write=False)


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class Column:
    """One field's encoded values: int64 ids [N], and int64 lengths [B] of the bags (``None``: one id each)."""

    ids: NDArray[np.int64]
    lengths: NDArray[np.int64] | None = None


class Encoder:
    """Encodes impressions, or one side of them, field by field."""

    def __init__(self, fields: Sequence[FieldEncoder]) -> None:
        self.fields = tuple(fields)
        self._is_single = all(f.spec.kind != "sequence" for f in self.fields)
        self._find_one = [f.quick_row_of for f in self.fields]
        self.missing_rows: NDArray[np.int64] = np.array([f.start + MISSING for f in self.fields], np.int64)
        self.oov_rows: NDArray[np.int64] = np.array([f.start + OOV for f in self.fields], np.int64)

    def encode(self, columns: Sequence[Sequence[Value]]) -> EncodedBatch:
        """Encode impressions given by column, one sequence of B values per field in the encoder's order.

        ``None`` and an empty list are MISSING, a token that training did not keep is OOV; nothing here raises on a
        value of the right type.
        """
        if self._is_single:
            if len(columns[0]) == 1:
                rows = [find(values[0]) for find, values in zip(self._find_one, columns, strict=True)]
                if None in rows:
                    rows = [field.row_of(values[0]) for field, values in zip(self.fields, columns, strict=True)]
                return EncodedBatch.single(np.array(rows, np.int64), len(rows))
            if len(columns[0]) <= FEW_ROWS:
                return EncodedBatch.single(self._rows_of_few(columns), len(columns))
            matrix = np.empty((len(columns[0]), len(columns)), np.int64)
            for f, (field, values) in enumerate(zip(self.fields, columns, strict=True)):
                matrix[:, f] = field.rows_of(values)
            return EncodedBatch.single(matrix.reshape(-1), len(columns))
        return assemble([field.encode(values) for field, values in zip(self.fields, columns, strict=True)])

    def _rows_of_few(self, columns: Sequence[Sequence[Value]]) -> NDArray[np.int64]:
        by_field = [list(map(find, values)) for find, values in zip(self._find_one, columns, strict=True)]
        for f, rows in enumerate(by_field):
            if None in rows:
                by_field[f] = list(map(self.fields[f].row_of, columns[f]))
        ids = np.array(list(chain.from_iterable(by_field)), np.int64)
        return ids.reshape(len(columns), -1).T.reshape(-1)

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
        return Encoder([f for f in self.fields if f.spec.side == side])


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
        starts = dict(zip(schema.num_tokens, np.cumsum([0, *sizes]).tolist(), strict=False))
        by_name = {f.name: f for f in schema.features.fields}
        self.num_rows: int = sum(sizes)
        self.block_starts: NDArray[np.int64] = np.array(list(starts.values()), np.int64)
        super().__init__(
            [
                FieldEncoder(spec, fitted, starts[spec.block], _token_ids(by_name[spec.block], vocabularies))
                for spec, fitted in zip(schema.features.fields, schema.fitted, strict=True)
            ]
        )


class FieldEncoder:
    """Encodes one field's values to rows of the table, which start at row ``start`` for this field's block."""

    def __init__(self, spec: FieldSpec, fitted: FittedField, start: int, token_ids: TokenIds | None) -> None:
        self.spec = spec
        self.start = start
        self._first_bin = start + NUM_SPECIAL
        self._boundaries = list(fitted.boundaries)
        self._boundary_array = np.array(fitted.boundaries, np.float64)
        self._token_ids = token_ids
        # Value → row. The type on the wire is fixed per field, so 1, True and 1.0 cannot meet here as keys.
        self._remembered: dict[object, int] = {None: start + MISSING}

    def encode(self, values: Sequence[Value]) -> Column:
        """Encode B raw values."""
        if self.spec.kind == "sequence":
            last = -self.spec.max_length
            bags = [v[last:] if v else (None,) for v in values]  # type: ignore[index]  # the wire and the log reader checked
            ids = self.encode_tokens(list(chain.from_iterable(bags)))
            return Column(ids, np.fromiter(map(len, bags), np.int64, len(bags)))
        return Column(self.rows_of(values))

    @property
    def quick_row_of(self) -> Callable[[Value], int | None]:
        """The quickest function that returns the table row of one value, or ``None`` where `row_of` is needed."""
        return self.row_of if self.spec.kind == "numeric" else self._remembered.get

    def row_of(self, value: Value) -> int:
        """Return the table row of one value of a field that is no sequence."""
        if self.spec.kind == "numeric":
            if value is None or value != value:
                return self.start + MISSING
            return self._first_bin + bisect_right(self._boundaries, value)  # type: ignore[type-var]
        row = self._remembered.get(value)
        return self._find(value) if row is None else row  # type: ignore[arg-type]

    def rows_of(self, values: Sequence[Value]) -> NDArray[np.int64]:
        """Return the table rows int64 [B] of values of a field that is no sequence."""
        if self.spec.kind == "numeric":
            return self.encode_numbers(values)  # type: ignore[arg-type]
        return self.encode_tokens(values)  # type: ignore[arg-type]

    def encode_tokens(self, tokens: Sequence[int | str | None]) -> NDArray[np.int64]:
        """Return the table rows of tokens, int64 [n]."""
        rows = np.fromiter(map(self._remembered.get, tokens, repeat(-1)), np.int64, len(tokens))
        for i in np.flatnonzero(rows < 0).tolist():  # rare or new
            rows[i] = self._find(tokens[i])
        return rows

    def encode_numbers(self, numbers: Sequence[float | None] | NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the table rows of numbers, int64 [n]; ``None`` and NaN are MISSING.

        Row start + 2 + k is the bin with k boundaries at or below the number.
        """
        x = np.asarray(numbers, np.float64)
        rows = self._first_bin + np.searchsorted(self._boundary_array, x, side="right")
        missing = np.isnan(x)
        if missing.any():
            rows[missing] = self.start + MISSING
        return rows

    def _find(self, token: int | str | None) -> int:
        assert self._token_ids is not None, "only fields with tokens come here"
        local_id = self._token_ids.find(str(token))
        row = self.start + local_id
        if local_id < NUM_REMEMBERED and local_id != OOV and len(self._remembered) < 2 * NUM_REMEMBERED:
            self._remembered[token] = row
        return row


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
