"""Numbers the distinct tokens of one block of a log, as `models.features.token_spelling` spells them."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.features.token_spelling import BOOLEANS

try:
    from models._native import TokenIndex as Numbering
except ImportError:  # pragma: no cover  # built without a compiler
    Numbering = None  # type: ignore[assignment,misc]

OTHERWISE_WRITTEN = r"^(-0|-?(0|[1-9][0-9]*)\.0+|True|TRUE|False|FALSE)$"
"""What `spell` changes, except that it shortens; long texts are shortened as they are read."""
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

    A token that is written in another way than it is spelt has the code of its spelling, and a number that no row has.

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
        self._spelt: NDArray[np.uint32] | None = None  # by code, that of the spelling, once one differs

    def __len__(self) -> int:
        """Return one more than the highest code."""
        return self._size

    def codes(self, tokens: pl.Series) -> NDArray[np.uint32]:
        """Return the codes of String tokens, uint32 [n]; new tokens get the next codes."""
        codes = np.empty(len(tokens), np.uint32)
        firsts = np.frombuffer(self._numbering.number(tokens, codes), np.int64)
        if len(firsts):
            # The concatenation copies: otherwise a few tokens would keep the text of their whole chunk in memory.
            new = tokens[firsts] + ""
            self._tokens.append(new)
            self._size += len(firsts)
            self._spell(new)
        return codes if self._spelt is None else self._spelt[codes]

    def _spell(self, new: pl.Series) -> None:
        # The last codes are those of `new`.
        is_other = new.str.contains(OTHERWISE_WRITTEN)
        first = self._size - len(new)
        if is_other.any():
            if self._spelt is None:
                self._spelt = np.arange(first, dtype=np.uint32)
            whole = new.filter(is_other).str.replace(r"\.0+$", "").str.replace("^-0$", "0").replace(BOOLEANS)
            self._extend()
            spellings = self.codes(whole)
            self._spelt[first + is_other.arg_true().to_numpy()] = spellings
        elif self._spelt is not None:
            self._extend()

    def _extend(self) -> None:
        assert self._spelt is not None
        self._spelt = np.concatenate([self._spelt, np.arange(len(self._spelt), self._size, dtype=np.uint32)])

    def find(self, tokens: pl.Series) -> NDArray[np.uint32]:
        """Return the codes of String tokens, uint32 [n], `NULL` for a token that has none."""
        codes = np.empty(len(tokens), np.uint32)
        self._numbering.find(tokens, codes)
        return codes if self._spelt is None else self._spelt[codes]

    def tokens(self, codes: NDArray[np.integer]) -> pl.Series:
        """Return the tokens of codes from 1, String [n]."""
        if len(self._tokens) != 1:
            self._tokens = [pl.concat([pl.Series(dtype=pl.String), *self._tokens], rechunk=True)]
        return self._tokens[0].gather(codes - 1)
