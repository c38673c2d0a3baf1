"""Converts files in the formats of libffm (``label field:feature:value …``) and libsvm (``label feature:value …``)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl

from models.errors import LogError

MAX_NUMBERS = 1_000
"""Features of libsvm with other values than 1 become a column each, at most so many."""
FEATURES = "features"


class Row(NamedTuple):
    """One line: the label, and (field or nothing, feature, value) of each entry."""

    label: str
    entries: list[tuple[str, str, float]]


def convert(source: Path, target: Path) -> int:
    """Write a Parquet log; return its number of rows.

    A field of libffm becomes the column ``field_<number>``: a token, a list where a row has several, or a number where the
    field has one feature with several values. Of libsvm, features with the value 1 become the list ``features``, and every
    other one the numeric column ``feature_<number>``.

    Raises:
        LogError: a line is in neither format, or the file cannot be read.
    """
    rows = list(_rows(source))
    if not rows:
        raise LogError(f"{source}: has no rows")
    entries = [(i, *entry) for i, row in enumerate(rows) for entry in row.entries]
    schema = {"row": pl.UInt32, "field": pl.String, "feature": pl.String, "value": pl.Float64}
    table = pl.DataFrame(entries, schema=schema, orient="row")
    labels = pl.Series("label", [row.label.removeprefix("+").removesuffix(".0") for row in rows]).cast(pl.Int8)
    found = pl.DataFrame({"row": pl.Series(range(len(rows)), dtype=pl.UInt32), "label": labels})
    for column in _columns(table):
        found = found.join(column, on="row", how="left", maintain_order="left")
    found.drop("row").write_parquet(target)
    return len(rows)


def _columns(table: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Yield each column with the rows that have it."""
    for (field,), part in table.partition_by("field", as_dict=True, maintain_order=True).items():
        if not field:
            yield from _columns_of_libsvm(part)
            continue
        name, is_token = f"field_{field}", bool((part["value"] == 1).all())
        if not is_token and part["feature"].n_unique() == 1:
            yield part.select("row", pl.col("value").alias(name))
            continue
        by_row = part.filter(pl.col("value") != 0).group_by("row").agg(pl.col("feature").alias(name))
        yield by_row if by_row[name].list.len().max() != 1 else by_row.with_columns(pl.col(name).list.first())


def _columns_of_libsvm(table: pl.DataFrame) -> Iterator[pl.DataFrame]:
    ones = table.group_by("feature").agg((pl.col("value") == 1).all()).filter("value")["feature"]
    is_one = pl.col("feature").is_in(ones.implode())
    numbers = table.filter(~is_one)
    if numbers["feature"].n_unique() > MAX_NUMBERS:
        raise LogError(f"more than {MAX_NUMBERS:,} features have other values than 1")
    for (feature,), part in numbers.partition_by("feature", as_dict=True, maintain_order=True).items():
        yield part.select("row", pl.col("value").alias(f"feature_{feature}"))
    if len(ones):
        yield table.filter(is_one).group_by("row").agg(pl.col("feature").alias(FEATURES))


def _rows(source: Path) -> Iterator[Row]:
    try:
        with source.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                label, *entries = line.split() or [""]
                if label:
                    yield Row(_label(label, source, number), [_entry(entry, source, number) for entry in entries])
    except (OSError, UnicodeDecodeError) as error:
        raise LogError(f"{source}: cannot be read: {error}") from error


def _label(text: str, source: Path, number: int) -> str:
    if text not in ("0", "1", "+1", "-1", "0.0", "1.0", "-1.0"):
        raise LogError(f"{source}: line {number}: expected a label 0, 1 or -1, got {text[:32]!r}")
    return text


def _entry(text: str, source: Path, number: int) -> tuple[str, str, float]:
    *parts, value = text.split(":")
    try:
        if len(parts) not in (1, 2):
            raise ValueError(text)
        return ("", *parts, float(value)) if len(parts) == 1 else (parts[0], parts[1], float(value))  # type: ignore[return-value]
    except ValueError:
        raise LogError(
            f"{source}: line {number}: expected field:feature:value or feature:value, got {text[:32]!r}"
        ) from None
