"""Values are read back to the bit, and anything else is recognised."""

import struct
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.embeddings.row_codec import Outcome, RowCodec
from tests.app.embeddings.making import DIGEST, DIM, make_table

CODEC = RowCodec(DIGEST, DIM)
TABLE = make_table()
IDS = np.array([7, 2, 999])
VALUES = CODEC.encode(IDS, TABLE[IDS])


def outcome_of(value: object, id_: int = 7) -> Outcome:
    _, outcomes = CODEC.decode(np.array([id_]), [value])
    return Outcome(outcomes[0])


def test_the_bytes_are_the_documented_ones() -> None:
    body = struct.pack("<4sHH8sq", b"CTRE", 1, DIM, bytes.fromhex(DIGEST[:16]), 7) + TABLE[7].astype("<f4").tobytes()
    assert VALUES[0] == body + struct.pack("<I", crc32(body))
    assert CODEC.keys(IDS) == [b"ctr:0123456789abcdef:7", b"ctr:0123456789abcdef:2", b"ctr:0123456789abcdef:999"]


def test_rows_come_back_bit_for_bit() -> None:
    rows, outcomes = CODEC.decode(IDS, VALUES)
    assert outcomes.tolist() == [Outcome.HIT] * 3
    assert rows.tobytes() == TABLE[IDS].tobytes()


def test_each_row_has_its_own_outcome() -> None:
    values = [VALUES[0], None, b"", VALUES[1], Outcome.TIMEOUT, Outcome.ERROR, 7, [b"x"]]
    ids = np.array([7, 1, 3, 2, 4, 5, 6, 8])
    rows, outcomes = CODEC.decode(ids, values)
    hit, miss, corrupt = Outcome.HIT, Outcome.MISS, Outcome.CORRUPT
    assert outcomes.tolist() == [hit, miss, corrupt, hit, Outcome.TIMEOUT, Outcome.ERROR, corrupt, corrupt]
    assert rows[[0, 3]].tobytes() == TABLE[[7, 2]].tobytes()


def test_no_flipped_bit_goes_unnoticed() -> None:
    for bit in range(8 * len(VALUES[0])):
        value = bytearray(VALUES[0])
        value[bit // 8] ^= 1 << bit % 8
        assert outcome_of(bytes(value)) is Outcome.CORRUPT, bit


@given(st.binary(max_size=200))
def test_random_bytes_are_corrupt(value: bytes) -> None:
    assert outcome_of(value) is Outcome.CORRUPT


def test_a_truncated_value_is_corrupt() -> None:
    for length in range(len(VALUES[0])):
        assert outcome_of(VALUES[0][:length]) is Outcome.CORRUPT, length


OTHERS = {
    "a byte more": VALUES[0] + b"\0",
    "another row": VALUES[1],
    "another table": RowCodec("f" * 64, DIM).encode(IDS[:1], TABLE[IDS[:1]])[0],
    "another width": RowCodec(DIGEST, DIM - 1).encode(IDS[:1], TABLE[IDS[:1], : DIM - 1])[0],
}


@pytest.mark.parametrize("value", OTHERS.values(), ids=OTHERS)
def test_a_value_of_something_else_is_corrupt(value: bytes) -> None:
    assert outcome_of(value) is Outcome.CORRUPT


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_corrupt_even_with_a_right_checksum(number: float) -> None:
    row = TABLE[[7]]
    row[0, 3] = number
    assert outcome_of(CODEC.encode(IDS[:1], row)[0]) is Outcome.CORRUPT


def test_another_magic_or_version_is_corrupt_even_with_a_right_checksum() -> None:
    for position in (0, 4):
        body = bytearray(VALUES[0][:-4])
        body[position] += 1
        assert outcome_of(bytes(body) + struct.pack("<I", crc32(body))) is Outcome.CORRUPT


def test_a_number_larger_than_any_in_the_table_is_corrupt_even_with_a_right_checksum() -> None:
    table = np.array([[0.5, -2.0], [1.0, 0.0]], np.float32)
    codec, ids = RowCodec(DIGEST, 2, largest=2.0), np.arange(2)
    for number in (np.nextafter(np.float32(2), np.float32(3)), np.float32(-3e38), np.float32("nan")):
        forged = table.copy()
        forged[1, 1] = number
        _, outcomes = codec.decode(ids, codec.encode(ids, forged))
        assert outcomes.tolist() == [Outcome.HIT, Outcome.CORRUPT]
    rows, outcomes = codec.decode(ids, codec.encode(ids, table))
    assert outcomes.tolist() == [Outcome.HIT] * 2
    assert rows.tobytes() == table.tobytes()
