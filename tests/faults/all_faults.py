"""All faults, in the order of the matrix: importing a module enters its faults."""

from __future__ import annotations

from tests.faults import (  # noqa: F401
    cache_faults,
    damage_faults,
    input_faults,
    life_faults,
    load_faults,
    matrix,
    model_faults,
    reply_faults,
)

FAULTS = sorted(matrix.FAULTS, key=lambda one: (one.id[0], int(one.id[1:])))
