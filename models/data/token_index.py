"""Numbers the distinct tokens of one block of a log. Used by `models.data.token_log`."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

try:
    from models._native import TokenIndex as Numbering
except ImportError:  # pragma: no cover  # built without a compiler
    Numbering = None  # type: ignore[assignment,misc]

NULL = 0
"""Code of a null and of an empty sequence; tokens have codes from 1."""


class PythonNumbering:
    """Does what `models._native.TokenIndex` does, for an installation without a compiler."""

    def __init__(self) -> None:
        self._codes: dict[str | None, int] = {None: NULL}

    def number(self, tokens: pl.Series, codes: NDArray[np.uint32]) -> NDArray[np.int64]:
        """Give new tokens the next codes; return the positions of their first appearances, int64."""
        firsts = []
        for i, token in enumerate(tokens.to_list()):
            if token not in self._codes:
                self._codes[token] = len(self._codes)
                firsts.append(i)
            codes[i] = self._codes[token]
        return np.array(firsts, np.int64)

    def find(self, tokens: pl.Series, codes: NDArray[np.uint32]) -> None:
        """Give new tokens no code: they are `NULL`, as nulls are."""
        codes[:] = [self._codes.get(token, NULL) for token in tokens.to_list()]


class TokenIndex:
    """The distinct tokens of a block, numbered from 1 in order of first appearance.

    >>> index = TokenIndex()
    >>> index.codes(pl.Series(["b", None, "a", "b"])).tolist(), index.tokens(np.array([2])).to_list(), len(index)
    ([1, 0, 2, 1], ['a'], 3)
    >>> index.find(pl.Series(["a", "c"])).tolist()
    [2, 0]
    """

    def __init__(self) -> None:
        self._numbering: Numbering | PythonNumbering = PythonNumbering() if Numbering is None else Numbering()
        self._tokens: list[pl.Series] = []
        self._size = 1

    def __len__(self) -> int:
        """Return one more than the highest code."""
        return self._size

    def codes(self, tokens: pl.Series) -> NDArray[np.uint32]:
        """Return the codes of String tokens, uint32 [n]; new tokens get the next codes."""
        codes = np.empty(len(tokens), np.uint32)
        firsts = np.frombuffer(self._numbering.number(tokens, codes), np.int64)
        if len(firsts):
            # The concatenation copies: otherwise a few tokens would keep the text of their whole chunk in memory.
            self._tokens.append(tokens[firsts] + "")
            self._size += len(firsts)
        return codes

    def find(self, tokens: pl.Series) -> NDArray[np.uint32]:
        """Return the codes of String tokens, uint32 [n], `NULL` for a token that has none."""
        codes = np.empty(len(tokens), np.uint32)
        self._numbering.find(tokens, codes)
        return codes

    def tokens(self, codes: NDArray[np.integer]) -> pl.Series:
        """Return the tokens of codes from 1, String [n]."""
        if len(self._tokens) != 1:
            self._tokens = [pl.concat([pl.Series(dtype=pl.String), *self._tokens], rechunk=True)]
        return self._tokens[0].gather(codes - 1)
