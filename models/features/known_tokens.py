"""Table rows of tokens that were looked up before, by a 64-bit key of each: a whole batch's by a few calls of numpy.

In front of the vocabularies, which hash a token's bytes and compare them in 4 µs. Python's own hash of a string takes
a fiftieth of that, and is keyed anew in each process, so that nobody can choose tokens that collide.
"""

from __future__ import annotations

import mmap
from bisect import bisect_right
from collections.abc import Collection, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from models.features.vocabulary import NUM_SPECIAL, OOV

MAX_TOKENS = 1 << 20
"""Of all blocks together; they take 32 bytes each."""
MAX_UNSEEN = 1 << 16
"""And so many that no block knows."""
UNSEEN = -1

# An integer is its own key, but for a null; the odd factor brings its lowest bits, in which ids differ, to the highest.
_NULL = hash("a null among integers")
_WORD = (1 << 64) - 1
_FACTOR = np.array(0x9E3779B97F4A7C15, np.uint64).view(np.int64)


class KnownTokens:
    """A hash table, open-addressed with linear probing and at most half full: key → table row.

    A text's key is its hash, which no text confirms: one unseen token in 10¹³ is taken for a known one. Nothing is ever
    removed and an entry is written in one step, so a thread may look up while another adds.

    >>> known = KnownTokens([2])
    >>> keys = known.keys([["a", "b"]], [], np.array([5]))
    >>> known.rows(keys).tolist()
    [-1, -1]
    >>> known.remember(0, keys[1:], np.array([7]), np.array([2]))
    >>> known.rows(keys).tolist()
    [-1, 7]

    Args:
        sizes: how many tokens each block has. There is room for all of them, or else for as many of each block
            as make `MAX_TOKENS` together.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        limit = bisect_right(range(MAX_TOKENS), MAX_TOKENS, key=lambda n: sum(min(size, n) for size in sizes)) - 1
        self._limits = [min(size, limit) for size in sizes]
        self._room = [*(size + 1 for size in self._limits), MAX_UNSEEN]  # a null too
        bits = (2 * sum(self._room)).bit_length()
        # Key, row + 1. Mapped, so that it takes memory only where something has been written, and gives all of it back: what
        # the allocator takes from an arena of its own is written full of zeros, and stays there.
        room = mmap.mmap(-1, 16 << bits, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._slots = np.frombuffer(room, np.int64).reshape(-1, 2)
        self._shift = np.uint64(64 - bits)
        self._mask = (1 << bits) - 1

    @staticmethod
    def keys(
        texts: Collection[Sequence[str | None]], integers: Collection[Sequence[int | None]], salts: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return the keys int64 [n] of tokens, one list for each field.

        Args:
            texts: of the fields whose tokens are strings.
            integers: of the fields whose tokens are integers; they come after the others.
            salts: int64, one for each list, so that equal tokens of two blocks have two keys.
        """
        lengths = [len(tokens) for tokens in chain(texts, integers)]
        num_texts = sum(lengths[: len(texts)])
        keys = np.empty(sum(lengths), np.int64)
        if texts:
            keys[:num_texts] = np.fromiter(map(hash, chain.from_iterable(texts)), np.int64, num_texts)
        if integers:
            try:
                keys[num_texts:] = np.fromiter(chain.from_iterable(integers), np.int64, len(keys) - num_texts)
            except (TypeError, OverflowError):  # a null, or from 2^63
                words = [(_NULL if token is None else token) & _WORD for token in chain.from_iterable(integers)]
                keys[num_texts:] = np.array(words, np.uint64).view(np.int64)
        keys ^= salts.repeat(lengths)
        keys *= _FACTOR
        return keys

    def rows(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the table rows of keys, int64 [n]; -1 where it is not known."""
        at = self._homes(keys)
        slots = self._slots.take(at, axis=0)
        rows = slots[:, 1] - 1
        others = ((slots[:, 0] != keys) & (rows >= 0)).nonzero()[0]
        while len(others):  # another token has the slot: on to the next one
            at[others] = following = (at[others] + 1) & self._mask
            slots = self._slots.take(following, axis=0)
            rows[others] = slots[:, 1] - 1
            others = others[(slots[:, 0] != keys[others]) & (slots[:, 1] > 0)]
        return rows

    def remember(
        self, block: int, keys: NDArray[np.int64], rows: NDArray[np.int64], local_ids: NDArray[np.int64]
    ) -> None:
        """Remember tokens' rows: of the block's frequent ones, and of the first that it does not know.

        Args:
            block: whose tokens they are.
            keys: int64 [n].
            rows: int64 [n], in the table.
            local_ids: int64 [n], in the block, by frequency.
        """
        frequent = local_ids < NUM_SPECIAL + self._limits[block]
        columns = (keys[frequent], self._homes(keys[frequent]), rows[frequent], local_ids[frequent] == OOV)
        for key, at, row, is_unseen in zip(*(column.tolist() for column in columns), strict=True):
            account = UNSEEN if is_unseen else block
            if self._room[account] and self._put(key, at, row):
                self._room[account] -= 1

    def _put(self, key: int, at: int, row: int) -> bool:
        while self._slots[at, 1]:
            if self._slots[at, 0] == key:
                return False
            at = (at + 1) & self._mask
        self._slots[at] = key, row + 1
        return True

    def _homes(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        return (keys.view(np.uint64) >> self._shift).view(np.int64)


def salt_of(block: int) -> int:
    """Return the salt of a block, by its number."""
    return hash(f"block {block}")
