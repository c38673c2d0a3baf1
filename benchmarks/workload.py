"""The requests of the benchmarks, all seeded: Zipf-distributed tokens, of which one in a hundred is unseen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import orjson

from benchmarks.conditions import SEED
from benchmarks.model import Shape, draw_numbers, draw_positions, make_fields, token
from models.features.field_encoder import Value

SERVED = Shape()
"""The model of the serving comparison: 26 categorical and 13 numeric fields, a million ids × 16, 400 × 400 × 400."""
NUM_CATALOG = 20_000
TOP_K = 100

Row = dict[str, Value]


class Traffic:
    """Draws impressions for a model.

    Args:
        seed: of the draws.
        shape: the model's sizes.
    """

    def __init__(self, seed: int = SEED, shape: Shape = SERVED) -> None:
        self._rng = np.random.default_rng(seed)
        self._shape = shape

    def rows(self, n: int) -> list[Row]:
        """Return n impressions."""
        tokens = draw_positions(self._shape, n, self._rng).tolist()
        numbers = draw_numbers(self._shape, n, self._rng).tolist()
        return [
            {f"C{i}": token(at) if at >= 0 else "never seen" for i, at in enumerate(row)}
            | {f"I{i}": x for i, x in enumerate(more)}
            for row, more in zip(tokens, numbers, strict=True)
        ]


def row_bodies(n: int, count: int, seed: int = SEED, shape: Shape = SERVED) -> list[bytes]:
    """Return ``count`` requests of n rows each."""
    traffic = Traffic(seed, shape)
    return [orjson.dumps({"instances": traffic.rows(n)}) for _ in range(count)]


def column_bodies(n: int, count: int, seed: int = SEED, shape: Shape = SERVED) -> list[bytes]:
    """Return ``count`` columnar requests of n rows each."""
    traffic = Traffic(seed, shape)
    return [orjson.dumps({"inputs": columns_of_rows(traffic.rows(n))}) for _ in range(count)]


def columns_of_rows(rows: Sequence[Row]) -> dict[str, list[Value]]:
    """Convert rows to one list per field.

    >>> columns_of_rows([{"a": 1}, {"a": 2}])
    {'a': [1, 2]}
    """
    return {name: [row[name] for row in rows] for name in rows[0]}


def write_catalog(path: Path) -> None:
    """Write the catalog of candidates for ``/rank``."""
    names = _names("candidate")
    rows = Traffic(SEED + 1).rows(NUM_CATALOG)
    path.write_bytes(orjson.dumps({"items": {f"c{i}": {n: row[n] for n in names} for i, row in enumerate(rows)}}))


def rank_bodies(num_candidates: int, count: int) -> list[bytes]:
    """Return ``count`` requests to rank candidates of the catalog."""
    names, rng = _names("context"), np.random.default_rng(SEED)
    bodies = []
    for row in Traffic(SEED + 2).rows(count):
        ids = [f"c{i}" for i in rng.choice(NUM_CATALOG, num_candidates, replace=False)]
        bodies.append(
            orjson.dumps({"context": {name: row[name] for name in names}, "candidate_ids": ids, "top_k": TOP_K})
        )
    return bodies


def _names(side: str) -> list[str]:
    return [field.name for field in make_fields(SERVED) if field.side == side]
