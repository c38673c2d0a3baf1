"""One field's raw values → rows of the embedding table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.features.token_spelling import spell
from models.features.vocabulary import MISSING, NUM_SPECIAL, TokenIds
from models.schema.feature_schema import FieldSpec, FittedField, Pooling, TokenType

Ints = NDArray[np.integer[Any]]
Token = int | float | str | None
TRUE = "true"
Value = int | float | str | Sequence[Token] | None
"""A truth value is an ``int``, as in Python."""


@dataclass(frozen=True, slots=True)
class Column:
    """One field's encoded values: ids [N], lengths [B] of the bags (``None``: one id each), and how bags are pooled."""

    ids: Ints
    lengths: Ints | None = None
    pooling: Pooling = "mean"


class FieldEncoder:
    """Encodes one field's values as rows of the table.

    Args:
        spec: the field.
        fitted: what training learnt about it.
        start: the first row of its block.
        token_ids: the block's tokens; ``None`` for a numeric field.
        separator: of the tokens of a sequence that is given as one text.
    """

    def __init__(
        self, spec: FieldSpec, fitted: FittedField, start: int, token_ids: TokenIds | None, separator: str = "|"
    ) -> None:
        self.spec = spec
        self.dtype = fitted.dtype
        self.pooling = fitted.pooling
        self.start = start
        self.boundaries: NDArray[np.float64] = np.array(fitted.boundaries, np.float64)
        self.token_ids = token_ids
        self.separator = separator

    def encode(self, values: Sequence[Value]) -> Column:
        """Encode B raw values. ``None``, an empty text and an empty list are MISSING, a token that training did not keep is OOV.

        Of a list, nulls and empty texts do not count.
        """
        if self.spec.kind == "numeric":
            return Column(self.encode_numbers(values))  # type: ignore[arg-type]  # the wire and the log reader checked
        if self.spec.kind == "categorical":
            return Column(self.find_all(values))  # type: ignore[arg-type]
        lists = [split_text(v, self.separator) if isinstance(v, str) else v or () for v in values]
        known = [[token for token in v if token not in (None, "")] for v in lists]  # type: ignore[union-attr]
        bags = [tokens[-self.spec.max_length :] or (None,) for tokens in known]
        lengths = np.fromiter(map(len, bags), np.int64, len(bags))
        return Column(self.find_all(list(chain.from_iterable(bags))), lengths, self.pooling)

    def encode_numbers(self, numbers: Sequence[float | None] | NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the table rows of numbers, int64 [n]; ``None`` and NaN are MISSING.

        Row start + 2 + k is the bin with k boundaries at or below the number.
        """
        x = np.asarray(numbers, np.float64)
        rows = self.start + NUM_SPECIAL + np.searchsorted(self.boundaries, x, side="right")
        return np.where(np.isnan(x), self.start + MISSING, rows)

    def find_all(self, tokens: Sequence[Token]) -> NDArray[np.int64]:
        """Return the table rows of tokens, int64 [n]; ``None`` is MISSING."""
        assert self.token_ids is not None, "a numeric field has no tokens"
        is_present = [token not in (None, "") for token in tokens]
        rows = np.full(len(tokens), self.start + MISSING)
        present = [spell(str(token)) for token in tokens if token not in (None, "")]
        rows[is_present] = self.start + self.token_ids.find_all(present)
        return rows


def split_text(text: str, separator: str) -> list[str]:
    """Return the tokens of a list that is written as one text.

    >>> split_text("['a', 'b']", ","), split_text("a|b", "|")
    (['a', 'b'], ['a', 'b'])
    """
    if separator == ",":
        return [token.strip(" '\"") for token in text.strip(" ").removeprefix("[").removesuffix("]").split(separator)]
    return text.split(separator)


def wire_value(token: str, dtype: TokenType | None) -> int | str:
    """Return a token as a client sends it."""
    if dtype == "boolean":
        return token == TRUE
    return int(token) if dtype == "integer" else token
