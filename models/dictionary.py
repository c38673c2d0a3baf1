"""Tokens → codes: the distinct tokens of one block of a log, numbered as they come. Used by `models.coded_log`."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

NULL = 0
"""Code of a null and of an empty sequence; tokens have codes from 1."""
FREE = 0

Codes = NDArray[np.int64]
Hashes = NDArray[np.uint64]


class Dictionary:
    """The distinct tokens of a block, numbered from 1 as they come.

    A hash table with open addressing and linear probing that is asked about a whole column at once: some numpy calls
    instead of one look-up per token. One hash says where the search for a token begins, a second, independent one
    is its name, so of ten million different tokens any two are taken for one with a probability of about 10⁻¹².

    >>> d = Dictionary()
    >>> d.codes(pl.Series(["b", None, "a", "b"])).tolist(), d.tokens(np.array([2])).to_list(), len(d)
    ([1, 0, 2, 1], ['a'], 3)
    >>> d.find(pl.Series(["a", "c"])).tolist()
    [2, 0]
    """

    def __init__(self) -> None:
        self._slots = np.full(1 << 10, FREE, np.int32)  # a token's code; at most half of them are taken
        self._homes, self._names = np.zeros((2, 1 << 9), np.uint64)  # by code
        self._tokens: list[pl.Series] = []
        self._size = 1

    def __len__(self) -> int:
        """Return one more than the highest code."""
        return self._size

    def codes(self, tokens: pl.Series) -> NDArray[np.uint32]:
        """Return the codes of String tokens, uint32 [n]; new tokens get new ones, in the order of their appearance."""
        homes, names = _hash(tokens)
        found = self._look_up(homes, names)  # of a null too, which is never found
        new = np.flatnonzero(found == NULL)
        if tokens.null_count():
            new = new[tokens.is_not_null().to_numpy()[new]]
        if len(new):
            found[new], firsts = self._insert(homes[new], names[new])
            # Without the concatenation a few tokens would keep the text of their whole chunk in memory.
            self._tokens.append(tokens.gather(new[firsts]) + "")
        return found.astype(np.uint32)

    def find(self, tokens: pl.Series) -> Codes:
        """Return the codes of String tokens without a null, int64 [n]; `NULL` for those that have none."""
        return self._look_up(*_hash(tokens))

    def tokens(self, codes: NDArray[np.integer]) -> pl.Series:
        """Return the tokens of codes from 1, String [n]."""
        if len(self._tokens) != 1:
            self._tokens = [pl.concat([pl.Series(dtype=pl.String), *self._tokens], rechunk=True)]
        return self._tokens[0].gather(codes - 1)

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
