"""One field's raw values → rows of the table. Needs numpy alone."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, repeat

import numpy as np
from numpy.typing import NDArray

from models.features.vocabulary import MISSING, NUM_SPECIAL, OOV, TokenIds
from models.schema.feature_schema import FieldSpec, FittedField, TokenType

Token = int | str | None
Value = int | float | str | Sequence[int | str] | None

# Tokens below this local id are remembered by value in a dictionary: bounded, and the most frequent ones first.
NUM_REMEMBERED = 100_000

# And so many of those that have no row, for each field.
NUM_UNSEEN = 4_096


@dataclass(frozen=True, slots=True)
class Column:
    """One field's encoded values: int64 ids [N], and int64 lengths [B] of the bags (``None``: one id each)."""

    ids: NDArray[np.int64]
    lengths: NDArray[np.int64] | None = None


class FieldEncoder:
    """Encodes one field's values to rows of the table.

    Args:
        spec: the field.
        fitted: what was learnt about it.
        block: the number of its block of rows.
        start: the block's first row.
        token_ids: of a field that has tokens.
    """

    def __init__(
        self, spec: FieldSpec, fitted: FittedField, block: int, start: int, token_ids: TokenIds | None
    ) -> None:
        self.spec = spec
        self.dtype = fitted.dtype
        self.block = block
        self.start = start
        self._first_bin = start + NUM_SPECIAL
        self._boundaries = list(fitted.boundaries)
        self.boundaries: NDArray[np.float64] = np.array(fitted.boundaries, np.float64)
        self._token_ids = token_ids
        self._unseen_room = NUM_UNSEEN
        # Value → row. The type on the wire is fixed per field, so 1, True and 1.0 cannot meet here as keys.
        self._remembered: dict[object, int] = {None: start + MISSING}

    def encode(self, values: Sequence[Value]) -> Column:
        """Encode B raw values."""
        if self.spec.kind == "sequence":
            tokens, lengths = self.flatten(values)
            return Column(self.encode_tokens(tokens), lengths)
        return Column(self.rows_of(values))

    def flatten(self, values: Sequence[Value]) -> tuple[list[Token], NDArray[np.int64]]:
        """Return the tokens of B sequences, a null for an empty one, and their numbers int64 [B]."""
        last = -self.spec.max_length
        bags = [v[last:] if v else (None,) for v in values]  # type: ignore[index]  # the wire and the log reader checked
        return list(chain.from_iterable(bags)), np.fromiter(map(len, bags), np.int64, len(bags))

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

    def encode_tokens(self, tokens: Sequence[Token]) -> NDArray[np.int64]:
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
        rows = self._first_bin + np.searchsorted(self.boundaries, x, side="right")
        missing = np.isnan(x)
        if missing.any():
            rows[missing] = self.start + MISSING
        return rows

    def find_all(self, tokens: Sequence[Token]) -> NDArray[np.int64]:
        """Return the table rows of tokens, int64 [n], and remember none."""
        assert self._token_ids is not None, "only fields with tokens come here"
        present = [str(token) for token in tokens if token is not None]
        rows = np.full(len(tokens), self.start + MISSING)
        rows[[token is not None for token in tokens]] = self.start + self._token_ids.find_all(present)
        return rows

    def _find(self, token: Token) -> int:
        assert self._token_ids is not None, "only fields with tokens come here"
        local_id = self._token_ids.find(str(token))
        row = self.start + local_id
        if local_id == OOV:
            if self._unseen_room:
                self._unseen_room -= 1
                self._remembered[token] = row
        elif local_id < NUM_REMEMBERED and len(self._remembered) < 2 * NUM_REMEMBERED:
            self._remembered[token] = row
        return row


def wire_value(token: str, dtype: TokenType | None) -> int | str:
    """Return a token as a client sends it."""
    return int(token) if dtype == "integer" else token
