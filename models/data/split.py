"""Divides a log's rows into training, validation and test part: by time if the schema names a time, else at random."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.errors import SchemaError
from models.evaluation.metrics import Labels
from models.schema.feature_schema import FeatureSchema


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

    Args:
        labels: 0 or 1, [n], in the order of the files.
        times: the split column in the same order, if the schema names one; rows with equal times keep their order.
        schema: of the log.
        seed: of a random division.

    Raises:
        SchemaError: the training or the validation part would be empty or hold one class only.
    """
    split, n = schema.split, len(labels)
    if times is not None:
        order = _oldest_first(times)
        times = times.gather(order)
    elif split.by_order:
        order = np.arange(n)
    else:
        order = np.random.default_rng(seed).permutation(n).argsort()
    if split.validation_from is not None and times is not None:
        validation_at = _first_row_from(times, split.validation_from)
        test_at = n if split.test_from is None else _first_row_from(times, split.test_from)
    else:
        test_at = round(n * (1 - split.test_fraction))
        validation_at = round(n * (1 - split.test_fraction - split.validation_fraction))
        if times is not None:  # rows with equal times stay in one part
            test_at, validation_at = (
                _first_row_from(times, times[at]) if at < n else n for at in (test_at, validation_at)
            )
    bounds = ((0, validation_at), (validation_at, test_at), (test_at, n))
    parts = Parts(*(order[a:b] if times is not None or split.by_order else np.sort(order[a:b]) for a, b in bounds))
    for name, rows in (("training", parts.train), ("validation", parts.validation)):
        clicks = int(np.count_nonzero(labels[rows]))
        if not 0 < clicks < len(rows):
            raise SchemaError(f"split: the {name} part has {len(rows)} rows and {clicks} clicks, expected both labels")
    return parts


def _oldest_first(times: pl.Series) -> NDArray[np.int64]:
    if times.dtype.is_numeric() or times.dtype.is_temporal():
        return times.to_physical().to_numpy().argsort(kind="stable")
    by_time = pl.DataFrame({"time": times, "row": np.arange(len(times))}).sort("time", maintain_order=True)
    return by_time["row"].to_numpy()


def _first_row_from(sorted_column: pl.Series, value: object) -> int:
    try:
        return int(sorted_column.search_sorted(_as_in(sorted_column.dtype, value)[0], side="left"))
    except (pl.exceptions.PolarsError, ValueError) as error:
        raise SchemaError(
            f"split: {value!r} cannot be compared with column {sorted_column.name!r} of {sorted_column.dtype}"
        ) from error


def _as_in(dtype: pl.DataType, value: object) -> pl.Series:
    # A series of one value of the column's type. Text is ISO 8601, in the column's time zone unless it names one.
    if not isinstance(value, str) or not dtype.is_temporal():
        return pl.Series([value]).cast(dtype)
    moment = datetime.fromisoformat(value)
    series = pl.Series([moment])
    zone = dtype.time_zone if isinstance(dtype, pl.Datetime) else None
    if zone is not None:
        series = series.dt.convert_time_zone(zone) if moment.tzinfo else series.dt.replace_time_zone(zone)
    elif moment.tzinfo is not None:
        raise ValueError("the column has no time zone")
    return series.cast(dtype)
