"""Frames of other libraries as canonical columns, without a label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from models.data.impressions import Position, canonical_fields
from models.data.log_files import UNREADABLE, first_line
from models.errors import LogError
from models.schema.feature_schema import FeatureSchema


def to_polars(frame: Any) -> pl.DataFrame:
    """Return a Polars or pandas frame, an Arrow table or a mapping of columns as a Polars frame.

    Raises:
        LogError: it is none of these, or its columns differ in length.
    """
    if isinstance(frame, pl.DataFrame):
        return frame
    if isinstance(frame, pl.LazyFrame):
        return frame.collect()
    try:
        # Arrow tables, and pandas frames without their index, by Arrow's interface for other libraries' columns.
        found = pl.DataFrame(frame)
    except (*UNREADABLE, TypeError, ValueError) as error:
        raise LogError(f"the frame cannot be read: {first_line(error)}") from error
    return found


def canonical_columns(frame: pl.DataFrame, schema: FeatureSchema) -> dict[str, pl.Series]:
    """Return the fields' columns as `models.data.impressions` reads them from files; an absent field is null everywhere.

    Raises:
        LogError: there is no field, or a value is not of its field's kind.
    """
    absent = [field.name for field in schema.fields if field.name not in frame.columns]
    if len(absent) == len(schema.fields):
        raise LogError(f"the frame has no field of the model, such as {absent[0]!r}")
    complete = frame.with_columns(pl.lit(None).alias(name) for name in absent)
    return canonical_fields(complete, Position(Path("frame"), 0), schema)
