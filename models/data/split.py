"""Divides a log's rows into training, validation and test part: by time if the schema names a time, else at random."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.errors import SchemaError
from models.evaluation.metrics import Labels
from models.features.moments import DAY_US, parse_moment
from models.schema.feature_schema import FeatureSchema

MOST_SHARE = 2.5
"""A part of whole days, or of whole equal times, may be so many times as large as its fraction, or that small a part of it."""


@dataclass(frozen=True)
class Parts:
    """Row numbers of each part, int64, oldest first; ``test`` can be empty."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]

    @property
    def by_name(self) -> dict[str, NDArray[np.int64]]:
        """The parts by their names in the manifest and the report."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


def split_rows(labels: Labels, times: pl.Series | None, schema: FeatureSchema, seed: int) -> Parts:
    """Divide the rows as the schema says.

    By fractions, parts begin with a day where that gives parts of about their sizes; else with a new time; else, as in a log
    of one day, within rows of equal times, in the order of the files.

    Args:
        labels: 0 or 1, [n], in the order of the files.
        times: Datetime or Float64, in the same order, if the schema names one; rows with equal times keep their order, and
            rows without a time are training rows.
        schema: of the log.
        seed: of a random division.

    Raises:
        SchemaError: the training or the validation part would be empty or hold one class only.
    """
    split, n = schema.split, len(labels)
    if times is not None:
        physical = times.to_physical()
        lowest = physical.min()
        keys = physical.fill_null(0 if lowest is None else lowest - 1).to_numpy()  # type: ignore[operator]
        order = keys.argsort(kind="stable")
        sorted_keys = keys[order]
    elif split.by_order:
        order = np.arange(n)
    else:
        order = np.random.default_rng(seed).permutation(n).argsort()
    if split.validation_from is not None and times is not None:
        bounds = [b for b in (split.validation_from, split.test_from) if b is not None]
        places = [int(np.searchsorted(sorted_keys, _boundary(b, times, schema))) for b in bounds]
        validation_at, test_at = places[0], places[1] if len(places) > 1 else n
    else:
        shares = (split.validation_fraction, split.test_fraction)
        wanted = round(n * (1 - sum(shares))), round(n * (1 - shares[1]))
        validation_at, test_at = wanted if times is None else _by_time(sorted_keys, times, wanted)
    ends = ((0, validation_at), (validation_at, test_at), (test_at, n))
    parts = Parts(*(order[a:b] if times is not None or split.by_order else np.sort(order[a:b]) for a, b in ends))
    for name, rows in (("training", parts.train), ("validation", parts.validation)):
        clicks = int(np.count_nonzero(labels[rows]))
        if not 0 < clicks < len(rows):
            log = "" if times is None else f"; the log goes {_range(times)}"
            raise SchemaError(
                f"split: the {name} part has {len(rows)} rows and {clicks} clicks, expected both labels{log}"
            )
    return parts


def _by_time(keys: NDArray[np.generic], times: pl.Series, wanted: tuple[int, int]) -> tuple[int, int]:
    """Return where validation and test part begin, near the ``wanted`` places, in sorted keys [n]."""
    groups = [keys // DAY_US] if isinstance(times.dtype, pl.Datetime) else []
    for group in (*groups, keys):
        starts = np.concatenate(([0], np.flatnonzero(np.diff(group)) + 1, [len(group)]))
        test_at = _nearest(starts if wanted[1] == len(keys) else starts[:-1], wanted[1])
        validation_at = _nearest(starts[starts < test_at], test_at - (wanted[1] - wanted[0]))
        sizes = (test_at - validation_at, wanted[1] - wanted[0]), (len(keys) - test_at, len(keys) - wanted[1])
        if all(asked / MOST_SHARE <= size <= asked * MOST_SHARE for size, asked in sizes):
            return validation_at, test_at
    return wanted


def _nearest(starts: NDArray[np.int64], place: int) -> int:
    return int(starts[np.abs(starts - place).argmin()]) if len(starts) else 0


def _boundary(value: float | str, times: pl.Series, schema: FeatureSchema) -> float:
    """Return a boundary of the schema in the unit of ``times``."""
    if isinstance(times.dtype, pl.Datetime):
        moment = parse_moment(value, schema.split.format)
        if moment is None and isinstance(value, str):
            moment = parse_moment(value, None)
        if moment is not None:
            return moment
    else:
        try:
            return float(value)
        except ValueError:
            pass
    column = schema.split.column
    raise SchemaError(f"split: {value!r} cannot be compared with column {column!r}, {_range(times)}")


def printable_time(value: Any) -> str:
    """Return a time for people, without a time of the day where that is midnight, and numbers without needless digits."""
    if isinstance(value, datetime):
        is_day = value.replace(tzinfo=UTC).timestamp() % 86_400 == 0
        return value.strftime("%Y-%m-%d" if is_day else "%Y-%m-%d %H:%M:%S")
    return str(int(value)) if float(value).is_integer() else f"{value:g}"


def _range(times: pl.Series) -> str:
    known = times.drop_nulls()
    return f"from {printable_time(known.min())} to {printable_time(known.max())}" if len(known) else "without times"
