"""Token → local id of one block of table rows; memory-mapped, so that ten million tokens need no parsing at load.

Local ids: ``MISSING`` = 0, ``OOV`` = 1, tokens from 2 ordered by (−count, token).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice, pairwise
from typing import Any, Protocol, Self

import numpy as np
import xxhash
from numpy.typing import NDArray

from models.errors import ArtifactError

try:
    from models._native import TokenBlock, hash_tokens

    IS_COMPILED = True
except ImportError:  # built without a compiler
    IS_COMPILED = False

MISSING = 0
OOV = 1
NUM_SPECIAL = 2
HASH_SEED = 0
SLICE = 100_000
"""Tokens that are held as Python strings at once; each takes as much memory as ten ids."""


class TokenIds(Protocol):
    """Local ids of the tokens of one block."""

    def find_all(self, tokens: Sequence[str]) -> NDArray[np.int64]:
        """Return the local id of each token, int64 [n]; `OOV` for a token that the block does not have."""
        ...

    @property
    def compiled(self) -> TokenBlock:
        """The same look-up for the compiled request reader; made on first use."""
        ...


class HashedVocabulary:
    """Feature hashing: xxh3-64 of the token's UTF-8 bytes, modulo ``buckets`` (Weinberger et al. 2009, without sign).

    No token is `OOV`.

    >>> HashedVocabulary(1000).find_all(["a", "b"]).tolist()
    [721, 617]
    """

    def __init__(self, buckets: int) -> None:
        self.buckets = buckets

    def find_all(self, tokens: Sequence[str]) -> NDArray[np.int64]:
        """Return the local id of each token, int64 [n]."""
        buckets = _hash_all(*_join(tokens)) % np.uint64(self.buckets)
        return NUM_SPECIAL + buckets.astype(np.int64)

    @cached_property
    def compiled(self) -> TokenBlock:
        """The same look-up for the compiled request reader."""
        return TokenBlock(self.buckets)


class Vocabulary:
    """Known tokens, found by binary search over their sorted 64-bit hashes and confirmed by their bytes.

    Args:
        arrays: ``hashes`` uint64 [n] ascending; ``positions`` int64 [n], the token's place by frequency;
            ``text`` uint8 [T], all tokens' UTF-8 one after the other by frequency; ``ends`` int64 [n].

    >>> v = Vocabulary.from_tokens(["b", "a"])
    >>> v.find_all(["b", "a", "c"]).tolist(), v.token(3)
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
        text, ends = bytearray(), [np.zeros(0, np.int64)]
        rest = iter(tokens)
        while some := list(islice(rest, SLICE)):
            joined, their_ends = _join(some)
            ends.append(len(text) + their_ends)
            text += joined.tobytes()
        return cls.from_text(np.frombuffer(text, np.uint8), np.concatenate(ends))

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

    def find_all(self, tokens: Sequence[str]) -> NDArray[np.int64]:
        """Return the local id of each token, int64 [n]; `OOV` for a token that is not in the vocabulary."""
        ids = np.full(len(tokens), OOV)
        if not len(self) or not tokens:
            return ids
        text, ends = _join(tokens)
        wanted = _hash_all(text, ends)
        at = np.minimum(self.hashes.searchsorted(wanted), len(self) - 1)
        hits = np.flatnonzero(self.hashes[at] == wanted)
        positions = self.positions[at[hits]]
        own_starts = np.where(positions > 0, self.ends[positions - 1], 0)
        starts = np.concatenate(([0], ends))[hits]
        lengths = ends[hits] - starts
        is_same = self.ends[positions] - own_starts == lengths
        hits, positions, lengths = hits[is_same], positions[is_same], lengths[is_same]
        own, asked = self.text[ranges(own_starts[is_same], lengths)], text[ranges(starts[is_same], lengths)]
        wrong = np.searchsorted(np.cumsum(lengths), np.flatnonzero(own != asked), side="right")
        ids[hits] = NUM_SPECIAL + positions
        ids[hits[wrong]] = OOV  # another token with the same hash
        return ids

    @cached_property
    def compiled(self) -> TokenBlock:
        """The same look-up for the compiled request reader; building its index reads all hashes once."""
        return TokenBlock(self.hashes, self.positions, self.ends, self.text)

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


def ranges(starts: NDArray[np.int64], lengths: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Return start, start + 1, …, start + length − 1 for each pair, one after the other.

    >>> ranges(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    ends = np.cumsum(lengths, dtype=np.int64)
    found: NDArray[np.int64] = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths)
    return found


def _join(tokens: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    # The tokens' UTF-8 one after the other, uint8 [T], and where each ends, int64 [n].
    encoded = [token.encode() for token in tokens]
    ends = np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)))
    return np.frombuffer(b"".join(encoded), np.uint8), ends


def _hash_all(text: NDArray[np.uint8], ends: NDArray[np.int64]) -> NDArray[np.uint64]:
    # The xxh3 of each token of a text, uint64 [n].
    hashes = np.zeros(len(ends), np.uint64)
    if IS_COMPILED:
        hash_tokens(text, ends, hashes)
        return hashes
    for i, (start, end) in enumerate(pairwise([0, *ends.tolist()])):
        hashes[i] = xxhash.xxh3_64_intdigest(text[start:end].tobytes(), HASH_SEED)
    return hashes
