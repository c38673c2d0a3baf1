"""What the compiled reader and Pydantic make of a body, compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from app.problems import Problem
from app.wire.predict_request import PredictWire
from app.wire.rank_request import RankWire
from models.features.encoder import EncodedBatch

MAX_ROWS = 50


def attempt(read: Callable[[bytes], Any], body: bytes) -> Any:
    try:
        return read(body)
    except Problem as refused:
        assert refused.code == "invalid_input"
        return None


def compare(wire: PredictWire | RankWire, body: bytes) -> bool:
    """Return whether a body is right, after both readers agree on that and on what it holds."""
    found, expected = attempt(wire.read, body), attempt(wire.read_with_pydantic, body)
    assert (found is None) == (expected is None), body
    if found is None:
        return False
    for a, b in zip(found, expected, strict=True):
        if isinstance(a, EncodedBatch):
            for part in ("ids", "offsets", "weights"):
                np.testing.assert_array_equal(getattr(a, part), getattr(b, part))
        else:
            assert a == b, body
    return True
