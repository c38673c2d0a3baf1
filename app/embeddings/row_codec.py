"""How one table's rows are named and written in Redis.

Key: ``ctr:<first 16 hex digits of the table's digest>:<decimal row id>``. Value, little-endian::

    magic b"CTRE" | version u16 | D u16 | digest 8 bytes | row id i64 | row float32 [D] | crc32 u32 of all before

A value names its table, width and row, so that one under a wrong key or of another table is recognised as a flipped bit is,
and counts as a miss. So does a row that no row of the table can be: a number that is not finite, or larger than the table's
largest. This is no defence against somebody who writes plausible rows into Redis on purpose: see ``docs/security.md``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

MAGIC = b"CTRE"
VERSION = 1
# What crc32 gives for any bytes followed by their own crc32, little-endian.
CRC_RESIDUE = 0x2144DF1C
FLOAT32_MAX = float(np.finfo(np.float32).max)


class Outcome(IntEnum):
    """What came of asking Redis for a row; the names in lower case are the metric's labels."""

    HIT = 0
    MISS = 1
    CORRUPT = 2
    ERROR = 3
    TIMEOUT = 4
    SKIPPED = 5


class RowCodec:
    """Keys and values of one table.

    Args:
        table_digest: hexadecimal, at least 16 digits.
        dim: D, the numbers in a row.
        largest: the largest absolute value in the table.
    """

    def __init__(self, table_digest: str, dim: int, largest: float = FLOAT32_MAX) -> None:
        self.dim = dim
        self._largest = np.float32(largest)
        self._prefix = f"ctr:{table_digest[:16]}:".encode()
        header = struct.pack("<4sHH", MAGIC, VERSION, dim) + bytes.fromhex(table_digest[:16])
        # As two numbers, so that numpy compares all values at once.
        self._kind, self._digest = np.frombuffer(header, "<u8")
        self._body = np.dtype([("kind", "<u8"), ("digest", "<u8"), ("id", "<i8"), ("row", "<f4", (dim,))])
        self._frame = np.dtype([*((name, self._body[name]) for name in self._body.names or ()), ("crc", "<u4")])

    def keys(self, ids: NDArray[np.int64]) -> list[bytes]:
        """Return the Redis keys of ``ids`` int64 [n]."""
        prefix = self._prefix
        return [b"%b%d" % (prefix, i) for i in ids.tolist()]

    def encode(self, ids: NDArray[np.int64], rows: NDArray[np.float32]) -> list[bytes]:
        """Return the values of ``rows`` float32 [n, D]."""
        bodies = np.empty(len(ids), self._body)
        bodies["kind"], bodies["digest"], bodies["id"], bodies["row"] = self._kind, self._digest, ids, rows
        data, size = bodies.tobytes(), self._body.itemsize
        parts = [data[i : i + size] for i in range(0, len(data), size)]
        return [part + crc32(part).to_bytes(4, "little") for part in parts]

    def decode(self, ids: NDArray[np.int64], values: Sequence[object]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Read what Redis answered for ``ids`` int64 [n]; an `Outcome` in the place of a value is kept.

        Returns:
            rows float32 [n, D], filled where the outcome is a hit; outcomes uint8 [n].
        """
        hit, miss, corrupt = Outcome.HIT.value, Outcome.MISS.value, Outcome.CORRUPT.value
        size = self._frame.itemsize
        whole: list[bytes] = []
        codes = bytearray()
        for value in values:
            if type(value) is bytes and len(value) == size and crc32(value) == CRC_RESIDUE:
                whole.append(value)
                codes.append(hit)
            elif value is None:
                codes.append(miss)
            else:
                codes.append(value if type(value) is Outcome else corrupt)
        outcomes = np.frombuffer(codes, np.uint8)
        rows = np.empty((len(ids), self.dim), np.float32)
        if whole:
            frames = np.frombuffer(b"".join(whole), self._frame)
            positions = np.flatnonzero(outcomes == hit)
            is_ours = (frames["kind"] == self._kind) & (frames["digest"] == self._digest)
            is_ours &= frames["id"] == ids[positions]
            is_ours &= (np.abs(frames["row"]) <= self._largest).all(axis=1)  # not so for NaN
            rows[positions] = frames["row"]
            outcomes[positions[~is_ours]] = corrupt
        return rows, outcomes

    def without_answer(self, num_ids: int, outcome: Outcome) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Return what `decode` returns when all rows have the same outcome, which is not a hit."""
        return np.empty((num_ids, self.dim), np.float32), np.full(num_ids, outcome, np.uint8)
