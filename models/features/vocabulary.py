"""Token → local id of one block of table rows; memory-mapped, so that ten million tokens load without parsing.

Local ids: ``MISSING`` = 0, ``OOV`` = 1, tokens from 2 ordered by (−count, token).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, pairwise
from typing import Protocol, Self

import numpy as np
import xxhash
from numpy.typing import NDArray

from models.errors import ArtifactError

try:
    from models._native import hash_tokens
except ImportError:  # pragma: no cover  # built without a compiler
    hash_tokens = None  # type: ignore[assignment]

MISSING = 0
OOV = 1
NUM_SPECIAL = 2
HASH_SEED = 0
FEW_TOKENS = 8
"""Up to so many are found one by one."""
MAX_COMPILED_BYTES = 240
"""Of tokens that compiled code hashes."""
SLICE = 100_000
"""Tokens that are Python strings at once, each of which weighs as much as ten ids."""


class TokenIds(Protocol):
    """What the encoder needs of a vocabulary."""

    def find(self, token: str) -> int:
        """Return the local id of ``token``, `OOV` where it has none."""
        ...

    def find_all(self, tokens: Sequence[str]) -> NDArray[np.int64]:
        """Return what `find` says of each token, int64 [n]."""
        ...


class HashedVocabulary:
    """Feature hashing: xxh3-64 of the token's UTF-8 bytes, modulo ``buckets`` (Weinberger et al. 2009, without sign).

    >>> HashedVocabulary(1000).find("a")
    721
    """

    def __init__(self, buckets: int) -> None:
        self.buckets = buckets

    def find(self, token: str) -> int:
        """Return the local id of ``token``; never `OOV`."""
        return NUM_SPECIAL + xxhash.xxh3_64_intdigest(token.encode(), HASH_SEED) % self.buckets

    def find_all(self, tokens: Sequence[str]) -> NDArray[np.int64]:
        """Return what `find` says of each token, int64 [n]."""
        return np.array([self.find(token) for token in tokens], np.int64)


class Vocabulary:
    """Known tokens, found by binary search over their sorted 64-bit hashes and confirmed by their bytes.

    Args:
        arrays: ``hashes`` uint64 [n] ascending; ``positions`` int64 [n], the token's place by frequency;
            ``text`` uint8 [T], all tokens' UTF-8 one after the other by frequency; ``ends`` int64 [n].

    >>> v = Vocabulary.from_tokens(["b", "a"])
    >>> [v.find(t) for t in ("b", "a", "c")], v.token(3)
    ([2, 3, 1], 'a')
    """

    def __init__(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        self.hashes: NDArray[np.uint64] = arrays["hashes"].view(np.uint64)
        self.positions: NDArray[np.int64] = arrays["positions"].view(np.int64)
        self.text: NDArray[np.uint8] = arrays["text"].view(np.uint8)
        self.ends: NDArray[np.int64] = arrays["ends"].view(np.int64)

    @classmethod
    def from_tokens(cls, tokens: Iterable[str]) -> Self:
        """Build from distinct tokens in the order of their ids, taken some at a time.

        Raises:
            ValueError: two tokens have the same 64-bit hash (about once in 4·10^5 vocabularies of ten million).
        """
        text, lengths = bytearray(), array("Q")
        rest = iter(tokens)
        while encoded := [token.encode() for token in islice(rest, SLICE)]:
            text += b"".join(encoded)
            lengths.extend(map(len, encoded))
        ends = np.cumsum(np.frombuffer(lengths, np.uint64), dtype=np.int64)
        return cls.from_text(np.frombuffer(text, np.uint8), ends)

    @classmethod
    def from_text(cls, text: NDArray[np.uint8], ends: NDArray[np.int64]) -> Self:
        """Build from the UTF-8 of distinct tokens, one after the other in the order of their ids; errors as in `from_tokens`.

        Args:
            text: uint8 [T].
            ends: int64 [n], where each token ends.
        """
        hashes = _hash_all(text, ends)
        positions = np.argsort(hashes)  # which are all different, or refused
        hashes = hashes[positions]
        if len(hashes) and bool((hashes[1:] == hashes[:-1]).any()):
            raise ValueError("two tokens have one hash: rename one of them, or use 'buckets'")
        return cls({"hashes": hashes, "positions": positions.astype(np.int64), "text": text, "ends": ends})

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """The arrays that `__init__` takes."""
        return {"hashes": self.hashes, "positions": self.positions, "text": self.text, "ends": self.ends}

    def find(self, token: str) -> int:
        """Return the local id of ``token``, `OOV` where it has none."""
        encoded = token.encode()
        wanted = np.uint64(xxhash.xxh3_64_intdigest(encoded, HASH_SEED))
        at = int(self.hashes.searchsorted(wanted))
        if at == len(self.hashes) or self.hashes[at] != wanted:
            return OOV
        position = int(self.positions[at])
        return NUM_SPECIAL + position if self._bytes(position) == encoded else OOV

    def find_all(self, tokens: Sequence[str]) -> NDArray[np.int64]:
        """Return what `find` says of each token, int64 [n], several times as fast for many.

        >>> Vocabulary.from_tokens(["b", "a"]).find_all(["a", "c", "b"]).tolist()
        [3, 1, 2]
        """
        if len(tokens) <= FEW_TOKENS:
            return np.array([self.find(token) for token in tokens], np.int64)
        encoded = [token.encode() for token in tokens]
        if not len(self):
            return np.full(len(encoded), OOV)
        wanted = np.fromiter((xxhash.xxh3_64_intdigest(t, HASH_SEED) for t in encoded), np.uint64, len(encoded))
        at = np.minimum(self.hashes.searchsorted(wanted), len(self) - 1)
        hits = np.flatnonzero(self.hashes[at] == wanted)
        positions = self.positions[at[hits]]
        starts = np.where(positions > 0, self.ends[positions - 1], 0)
        lengths = self.ends[positions] - starts
        ends = np.cumsum(lengths)
        letters = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths)
        if self.text[letters].tobytes() != b"".join([encoded[i] for i in hits]):  # two tokens with one hash
            return np.array([self.find(token) for token in tokens])
        ids = np.full(len(encoded), OOV)
        ids[hits] = NUM_SPECIAL + positions
        return ids

    def token(self, local_id: int) -> str:
        """Return the token of a local id ≥ 2."""
        return self._bytes(local_id - NUM_SPECIAL).decode()

    def tokens(self) -> list[str]:
        """Return all tokens in the order of their ids."""
        return [token for _, tokens in self.slices() for token in tokens]

    def slices(self) -> Iterator[tuple[NDArray[np.int64], list[str]]]:
        """Yield local ids and their tokens, in the order of the ids, some at a time."""
        for first in range(0, len(self), SLICE):
            ends = self.ends[first : first + SLICE]
            start = int(self.ends[first - 1]) if first else 0
            text, bounds = self.text[start : ends[-1]].tobytes(), [0, *(ends - start).tolist()]
            ids = np.arange(first, first + len(ends)) + NUM_SPECIAL
            yield ids, [text[a:b].decode() for a, b in pairwise(bounds)]

    def _bytes(self, position: int) -> bytes:
        start = int(self.ends[position - 1]) if position else 0
        return self.text[start : int(self.ends[position])].tobytes()

    def check(self, name: str, num_tokens: int) -> None:
        """Check lengths and ranges of arrays read from a file, so that no look-up can leave them.

        Raises:
            ArtifactError: ``shape``.
        """
        n = num_tokens
        lengths_fit = len(self.hashes) == len(self.positions) == len(self.ends) == n
        if not lengths_fit or (
            n
            and not (
                int(self.positions.min()) >= 0
                and int(self.positions.max()) < n
                and int(self.ends[0]) >= 0
                and int(self.ends[-1]) == len(self.text)
                and bool((self.ends[1:] >= self.ends[:-1]).all())
                and bool((self.hashes[1:] > self.hashes[:-1]).all())
            )
        ):
            raise ArtifactError("shape", f"vocabulary of {name!r}: its arrays do not describe {n} tokens")


def _hash_all(text: NDArray[np.uint8], ends: NDArray[np.int64]) -> NDArray[np.uint64]:
    # The xxh3 of each token of a text, uint64 [n].
    hashes, starts = np.zeros(len(ends), np.uint64), np.concatenate(([0], ends[:-1]))
    rest = np.arange(len(ends))
    if hash_tokens is not None:
        hash_tokens(text, ends, hashes)
        rest = np.flatnonzero(ends - starts > MAX_COMPILED_BYTES)
    for i in rest.tolist():
        hashes[i] = xxhash.xxh3_64_intdigest(text[starts[i] : ends[i]].tobytes(), HASH_SEED)
    return hashes
