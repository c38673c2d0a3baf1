"""Finds out how the time column of a schema is written, where the schema does not say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from models.data.columns import is_ordinal, plain
from models.data.log_files import UNREADABLE, find_files, first_line, scan_file
from models.data.moments import formats_of, likeliest
from models.errors import LogError, SchemaError
from models.schema.feature_schema import FeatureSchema

SAMPLE_FILES = 8
SAMPLE_ROWS = 10_000


def with_time_format(patterns: Sequence[str], schema: FeatureSchema) -> FeatureSchema:
    """Return the schema with the ``split.format`` that its log has.

    All of the column is read only where its first rows can be read in more than one way, such as ``01.02.2024``.

    Raises:
        LogError: a file cannot be read.
        SchemaError: the column holds no times, or a field is derived from times that are only numbers.
    """
    split = schema.split
    if split.column is None or split.format is not None:
        return schema
    files = find_files(patterns)
    places = np.unique(np.linspace(0, len(files) - 1, min(len(files), SAMPLE_FILES)).round().astype(int))
    heads = [_column(files[i], schema, SAMPLE_ROWS) for i in places]
    known = [head.drop_nulls() for head in heads if head is not None and head.null_count() < len(head)]
    if not known or known[0].dtype.is_temporal():
        return schema
    values = pl.concat([head.cast(pl.String) for head in known]) if known[0].dtype == pl.String else known[0]
    formats = formats_of(values)
    if len(formats) > 1:
        columns = [_column(path, schema, None) for path in files]
        whole = pl.concat([column.cast(pl.String) for column in columns if column is not None])
        formats = [likeliest(formats_of(whole.drop_nulls()) or formats, whole)]
    if not formats and not is_ordinal(values, None):
        raise SchemaError(
            f"split: column {split.column!r} holds {str(values[0])[:32]!r}, which cannot be read as a time: give its 'format'"
        )
    if not formats and any(field.derived for field in schema.fields):
        name = next(field.name for field in schema.fields if field.derived)
        raise SchemaError(f"field {name!r}: cannot be derived, since column {split.column!r} holds no dates")
    return schema.model_copy(update={"split": split.model_copy(update={"format": formats[0] if formats else None})})


def _column(path: Path, schema: FeatureSchema, num_rows: int | None) -> pl.Series | None:
    """Return the time column of a file, or its first rows; ``None`` if the file has none, which is refused later."""
    name = schema.split.column
    assert name is not None, "the schema names a time"
    try:
        lazy = scan_file(path, schema.log)
        if name not in lazy.collect_schema():
            return None
        chosen = lazy.select(name)
        return plain(
            (chosen if num_rows is None else chosen.head(num_rows)).collect().to_series(), schema.log.null_values
        )
    except UNREADABLE as error:
        raise LogError(f"{path}: cannot be read: {first_line(error)}") from error
