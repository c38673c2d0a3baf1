"""The head compiled: which fields' products it keeps, and how it is made; see ``native/head.c``. Used by `models.network.head`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

try:
    from models._native import Head as CompiledHead
except ImportError:  # built without a compiler
    CompiledHead = None  # type: ignore[assignment,misc]

Floats = NDArray[np.float32]

KNOWN_BYTES = 512 * 2**10
"""Of products that a head keeps; more would not stay in a core's own cache."""


class KnownField(NamedTuple):
    """A field of one value each, of few table rows: what each brings to the first layer may be computed beforehand."""

    start: int
    """The field's first table row."""
    rows: Floats
    """Its rows, float32 [n, E+1]."""


def known_fields(single: Mapping[int, tuple[int, int]], table: Floats) -> dict[int, KnownField]:
    """Return fields of one value each with their rows of ``table`` float32 [R, E+1], given their first and end rows."""
    return {position: KnownField(start, table[start:end]) for position, (start, end) in single.items()}


def choose_known(single: Mapping[int, KnownField], width: int) -> dict[int, KnownField]:
    """Return the fields of the fewest rows, as many as fit `KNOWN_BYTES`, by position.

    Args:
        single: fields of one value each, by position.
        width: of the first layer.
    """
    chosen, room = {}, KNOWN_BYTES
    for position, field in sorted(single.items(), key=lambda item: len(item[1].rows)):
        room -= len(field.rows) * width * 4
        if room < 0:
            break
        chosen[position] = field
    return chosen


def compile_head(
    num_fields: int,
    dim: int,
    products: list[tuple[Floats, Floats]],
    bias: np.float32,
    known: Mapping[int, KnownField],
) -> CompiledHead | None:
    """Return the compiled head, or ``None`` where there is none or none for this processor.

    Args:
        num_fields: F.
        dim: E + 1.
        products: weight [in, width] and bias [width] of each layer, the last one's width is 1.
        bias: of the logit.
        known: fields whose products are to be kept, by position.
    """
    if CompiledHead is None:
        return None
    *layers, (last, last_bias) = products
    arrays = [(np.ascontiguousarray(w), np.ascontiguousarray(b)) for w, b in layers]
    try:
        return CompiledHead(
            num_fields,
            dim,
            tuple(arrays),
            np.ascontiguousarray(last),
            float(bias + last_bias[0]),
            tuple(known.get(position) for position in range(num_fields)),
        )
    except NotImplementedError:  # a processor that it knows nothing of
        return None
