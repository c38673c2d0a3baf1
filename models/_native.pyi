from collections.abc import Mapping

from numpy.typing import NDArray
import numpy as np

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
