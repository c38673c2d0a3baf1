"""The binary tensor data extension of the Open Inference Protocol: raw tensors after the JSON of a request.

A tensor whose parameters have ``binary_data_size`` has no ``data``; its bytes follow the JSON in the order of the inputs. Numbers are
little-endian; an element of a ``BYTES`` tensor is a length in four bytes and the text in UTF-8.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from app.problems import Problem

NUMBERS: Mapping[str, str] = {
    "FP64": "<f8", "FP32": "<f4", "FP16": "<f2",
    "INT64": "<i8", "INT32": "<i4", "INT16": "<i2", "INT8": "<i1",
    "UINT64": "<u8", "UINT32": "<u4", "UINT16": "<u2", "UINT8": "<u1", "BOOL": "?",
}  # fmt: skip
LENGTH_BYTES = 4


class BinaryTensors:
    """Takes tensors from the bytes after a request's JSON, one after the other.

    Args:
        raw: those bytes.
    """

    def __init__(self, raw: memoryview) -> None:
        self._raw = raw
        self._at = 0

    def take(self, size: Any, datatype: str) -> list[Any]:
        """Return the elements of the next tensor, of ``size`` bytes; NaN is ``None``.

        Raises:
            Problem: ``invalid_input``: there are not so many bytes, or they are no elements of the datatype.
        """
        if type(size) is not int or not 0 <= size <= len(self._raw) - self._at:
            raise Problem("invalid_input", "'binary_data_size' is not the size of a tensor")
        raw = self._raw[self._at : self._at + size]
        self._at += size
        if datatype == "BYTES":
            return _texts(raw)
        if datatype not in NUMBERS or size % np.dtype(NUMBERS[datatype]).itemsize:
            raise Problem("invalid_input", "a binary tensor does not hold elements of its datatype")
        numbers = np.frombuffer(raw, NUMBERS[datatype])
        if numbers.dtype.kind != "f":
            return list(numbers.tolist())
        if np.isinf(numbers).any():
            raise Problem("invalid_input", "a binary tensor holds an infinite number")
        return [None if number != number else number for number in numbers.tolist()]

    def finish(self) -> None:
        """Check that nothing is left.

        Raises:
            Problem: ``invalid_input``.
        """
        if self._at != len(self._raw):
            raise Problem("invalid_input", "there are bytes after the last tensor")


def _texts(raw: memoryview) -> list[str]:
    texts, at = [], 0
    while at < len(raw):
        start = at + LENGTH_BYTES
        at = start + int.from_bytes(raw[at:start], "little")
        if at > len(raw):
            raise Problem("invalid_input", "a text of a binary tensor is longer than the tensor")
        try:
            texts.append(str(raw[start:at], "utf-8"))
        except UnicodeDecodeError:
            raise Problem("invalid_input", "a text of a binary tensor is not UTF-8") from None
    return texts
