"""Tokens → codes: the distinct tokens of one block of a log, numbered as they come. Used by `models.data.token_log`."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.features.vocabulary import Vocabulary

try:
    from models._native import TokenTable
except ImportError:  # pragma: no cover  # built without a compiler
    TokenTable = None  # type: ignore[assignment,misc]

NULL = 0
"""Code of a null and of an empty sequence; tokens have codes from 1."""
FREE = 0

Codes = NDArray[np.int64]
Hashes = NDArray[np.uint64]


class TokenIndex:
    """The distinct tokens of a block, numbered from 1 as they come.

    >>> d = TokenIndex()
    >>> d.codes(pl.Series(["b", None, "a", "b"])).tolist(), d.tokens(np.array([2])).to_list(), len(d)
    ([1, 0, 2, 1], ['a'], 3)
    >>> d.find(Vocabulary.from_tokens(["a", "c"])).tolist()
    [2, 0]
    """

    def __init__(self) -> None:
        self._table: CompiledTable | ArrayTable = ArrayTable() if TokenTable is None else CompiledTable(TokenTable())
        self._tokens: list[pl.Series] = []
        self._size = 1

    def __len__(self) -> int:
        """Return one more than the highest code."""
        return self._size

    def codes(self, tokens: pl.Series) -> NDArray[np.uint32]:
        """Return the codes of String tokens, uint32 [n]; new tokens get new ones, in the order of their appearance."""
        codes, firsts = self._table.number(tokens)
        if len(firsts):
            # Without the concatenation a few tokens would keep the text of their whole chunk in memory.
            self._tokens.append(tokens[firsts] + "")
            self._size += len(firsts)
        return codes

    def find(self, vocabulary: Vocabulary) -> NDArray[np.uint32]:
        """Return the codes of a vocabulary's tokens in the order of their ids, uint32 [n]; `NULL` for those that have none."""
        return self._table.find(vocabulary)

    def tokens(self, codes: NDArray[np.integer]) -> pl.Series:
        """Return the tokens of codes from 1, String [n]."""
        if len(self._tokens) != 1:
            self._tokens = [pl.concat([pl.Series(dtype=pl.String), *self._tokens], rechunk=True)]
        return self._tokens[0].gather(codes - 1)


class CompiledTable:
    """Codes by the compiled table, which takes a column as it stands in memory and tells tokens apart by their bytes."""

    def __init__(self, table: TokenTable) -> None:
        self._table = table

    def number(self, tokens: pl.Series) -> tuple[NDArray[np.uint32], Codes]:
        """As `ArrayTable.number`."""
        codes = np.empty(len(tokens), np.uint32)
        return codes, np.frombuffer(self._table.number(tokens.__arrow_c_stream__(), codes), np.int64)

    def find(self, vocabulary: Vocabulary) -> NDArray[np.uint32]:
        """As `ArrayTable.find`."""
        codes = np.empty(len(vocabulary), np.uint32)
        self._table.find_text(vocabulary.text, vocabulary.ends, codes)
        return codes


class ArrayTable:
    """Codes where there is no compiler.

    A hash table with open addressing and linear probing that is asked about a whole column at once: some numpy calls
    instead of one look-up per token. One hash says where the search for a token begins, a second, independent one
    is its name, so of ten million different tokens any two are taken for one with a probability of about 10⁻¹².
    """

    def __init__(self) -> None:
        self._slots = np.full(1 << 10, FREE, np.int32)  # a token's code; at most half of them are taken
        self._homes, self._names = np.zeros((2, 1 << 9), np.uint64)  # by code
        self._size = 1

    def number(self, tokens: pl.Series) -> tuple[NDArray[np.uint32], Codes]:
        """Return the codes of String tokens, uint32 [n], and the places of those that are new, in their order, int64."""
        homes, names = _hash(tokens)
        found = self._look_up(homes, names)  # of a null too, which is never found
        new = np.flatnonzero(found == NULL)
        if tokens.null_count():
            new = new[tokens.is_not_null().to_numpy()[new]]
        if not len(new):
            return found.astype(np.uint32), new
        found[new], firsts = self._insert(homes[new], names[new])
        return found.astype(np.uint32), new[firsts]

    def find(self, vocabulary: Vocabulary) -> NDArray[np.uint32]:
        """Return the codes of a vocabulary's tokens in the order of their ids, uint32 [n]; `NULL` for those that have none."""
        slices = (pl.Series(tokens, dtype=pl.String) for _, tokens in vocabulary.slices())
        found = [self._look_up(*_hash(tokens)).astype(np.uint32) for tokens in slices]
        return np.concatenate([np.empty(0, np.uint32), *found])

    def _look_up(self, homes: Hashes, names: Hashes) -> Codes:
        at = self._places(homes)
        found = self._slots[at].astype(np.int64)
        others = np.flatnonzero((self._names[found] != names) & (found != FREE))
        while len(others):  # another token has the slot: on to the next one
            at[others] = self._next(at[others])
            found[others] = codes = self._slots[at[others]]
            others = others[(self._names[codes] != names[others]) & (codes != FREE)]
        return found

    def _insert(self, homes: Hashes, names: Hashes) -> tuple[Codes, Codes]:
        # Gives new codes to k tokens that have none; returns these int64 [k], and the places of the first of each.
        k = len(names)
        self._reserve(self._size + k)
        at, owners, rest = self._places(homes), np.empty(k, np.int64), np.arange(k)
        while len(rest):
            here = at[rest]
            wanting = np.flatnonzero(self._slots[here] == FREE)[::-1]
            self._slots[here[wanting]] = -1 - rest[wanting]  # of several that want a slot, the first is written last
            taken_by = -1 - self._slots[here].astype(np.int64)  # negative: by a token from before
            own = (taken_by >= 0) & (names[taken_by.clip(0)] == names[rest])
            owners[rest[own]] = taken_by[own]
            rest = rest[~own]
            at[rest] = self._next(at[rest])
        firsts = np.flatnonzero(owners == np.arange(k))
        new = slice(self._size, self._size + len(firsts))
        codes = np.empty(k, np.int64)
        codes[firsts] = np.arange(new.start, new.stop)
        self._slots[at[firsts]] = codes[firsts]
        self._homes[new], self._names[new] = homes[firsts], names[firsts]
        self._size = new.stop
        return codes[owners], firsts

    def _reserve(self, size: int) -> None:
        if 2 * size <= len(self._slots):
            return
        capacity = 1 << (2 * size - 1).bit_length()
        old = self._homes[: self._size], self._names[: self._size]
        self._homes, self._names = np.zeros((2, capacity // 2), np.uint64)
        self._homes[: self._size], self._names[: self._size] = old
        self._slots = np.full(capacity, FREE, np.int32)
        codes = np.arange(1, self._size)
        at = self._places(self._homes[codes])
        while len(codes):
            free = self._slots[at] == FREE
            self._slots[at[free]] = codes[free]
            lost = self._slots[at] != codes
            codes, at = codes[lost], self._next(at[lost])

    def _places(self, homes: Hashes) -> Codes:
        return (homes & np.uint64(len(self._slots) - 1)).view(np.int64)

    def _next(self, at: Codes) -> Codes:
        return (at + 1) & (len(self._slots) - 1)


def _hash(tokens: pl.Series) -> tuple[Hashes, Hashes]:
    return tokens.hash(0).to_numpy(), tokens.hash(1).to_numpy()
