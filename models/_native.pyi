from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

def platt(logits: NDArray[np.float32], slope: float, intercept: float, max_logit: float) -> bytes:
    """Return the float64 sigmoid of slope · logits + intercept, bounded by ``max_logit`` on both sides."""

def keep_freed_memory(largest: int, most: int) -> None:
    """Let the allocator keep pieces of up to ``largest`` bytes that are freed, together ``most`` at the top of its heap."""

class RowReader:
    """Bytes of a request → rows of the table; see ``native/request.h``.

    Raises:
        ValueError: sizes, names or arrays that it cannot work with.
    """

    def __init__(self, num_fields: int, max_rows: int, max_chars: int, max_sequence: int) -> None: ...
    def add_vocabulary(
        self, hashes: NDArray[np.uint64], positions: NDArray[np.int64], ends: NDArray[np.int64], text: NDArray[np.uint8]
    ) -> int: ...
    def add_hashing(self, buckets: int) -> int: ...
    def add_field(
        self, name: str, kind: int, block: int, start: int, max_length: int, boundaries: NDArray[np.float64]
    ) -> None: ...
    def read(
        self, body: bytes
    ) -> tuple[bytes, bytes | None, bytes | None, Mapping[str, int], Mapping[str, int]] | None: ...

class Head:
    """The head of a model with rectified layers; see ``native/head.c``. Arrays are contiguous float32.

    Raises:
        ValueError: arrays that do not fit each other.
        NotImplementedError: there are no kernels for this processor.
    """

    def __init__(
        self,
        num_fields: int,
        dim: int,
        layers: tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...],
        last: NDArray[np.float32],
        bias: float,
    ) -> None: ...
    def logits(self, fields: NDArray[np.float32]) -> bytes: ...
    def rank(
        self,
        product: NDArray[np.float32],
        squares: NDArray[np.float32],
        candidates_product: NDArray[np.float32],
        candidates_squares: NDArray[np.float32],
        places: NDArray[np.int64],
    ) -> bytes: ...
