"""What is done to a whole column of a coded log: counted, looked up, sorted into bins. Compiled, or with numpy where it is not.

Used by `models.data.fitting`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.features.field_encoder import FieldEncoder
from models.features.vocabulary import MISSING, NUM_SPECIAL

try:
    from models._native import count, look_up, place
except ImportError:  # pragma: no cover  # built without a compiler
    IS_COMPILED = False
else:
    IS_COMPILED = True


def count_codes(
    codes: NDArray[np.uint32], counted: NDArray[np.bool_], counts: NDArray[np.int64], seen: NDArray[np.bool_]
) -> None:
    """Add each code uint32 [n] that is ``counted`` bool [n] to ``counts`` int64 [codes]; mark all in ``seen`` bool [codes]."""
    if IS_COMPILED:
        count(codes, counted, counts, seen)
        return
    np.add.at(counts, codes[counted].astype(np.int64), 1)  # bincount would go through all codes
    seen[codes] = True


def fill_rows(rows: NDArray[np.int32], codes: NDArray[np.uint32], to: NDArray[np.int32], first: int, step: int) -> None:
    """Write the table rows of codes uint32 [n], given those of all codes, to every ``step``-th place from ``first`` on."""
    if IS_COMPILED:
        look_up(rows, codes, to, first, step)
        return
    to[first::step] = rows[codes]


def fill_bins(field: FieldEncoder, numbers: NDArray[np.float64], to: NDArray[np.int32], first: int, step: int) -> None:
    """Write the table rows of a field's numbers float64 [n], as `FieldEncoder.encode_numbers` has them; places as above."""
    if IS_COMPILED:
        bins = (field.start + NUM_SPECIAL, field.start + MISSING)
        place(np.ascontiguousarray(numbers), field.boundaries, *bins, to, first, step)
        return
    to[first::step] = field.encode_numbers(numbers)
