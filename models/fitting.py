"""Learns a schema's encoding from training rows, and encodes whole frames with it.

Bulk work is done on distinct values, through the same `FieldEncoder` that serves single requests.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.encoding import Column, EncodedBatch, FeatureEncoder, FieldEncoder, assemble
from models.impressions import Log
from models.schema import FeatureSchema, FieldSpec, FittedField, FittedSchema, TokenType
from models.vocabulary import MISSING, Vocabulary


def fit_encoder(log: Log, schema: FeatureSchema, train_rows: NDArray[np.int64]) -> FeatureEncoder:
    """Count tokens and place bin boundaries on the training rows alone."""
    frame = log.frame[train_rows]
    vocabularies: dict[str, Vocabulary] = {}
    num_tokens: dict[str, int] = {}
    fitted: list[FittedField] = []
    for field in schema.fields:
        dtype = log.dtypes.get(field.name)
        boundaries = _boundaries(frame[field.name], field.bins) if field.kind == "numeric" else ()
        if field.kind == "numeric":
            num_tokens[field.name] = len(boundaries) + 1
        elif field.block == field.name:
            if field.buckets is None:
                sharers = [frame[f.name] for f in schema.fields if f.block == field.name]
                vocabularies[field.name] = _vocabulary(sharers, field.min_count)
                num_tokens[field.name] = len(vocabularies[field.name])
            else:
                num_tokens[field.name] = field.buckets
        fitted.append(
            FittedField(dtype=dtype, boundaries=boundaries, example=_example(frame[field.name], field, dtype))
        )
    blocks = dict.fromkeys(f.block for f in schema.fields)
    return FeatureEncoder(
        FittedSchema(features=schema, fitted=tuple(fitted), num_tokens={b: num_tokens[b] for b in blocks}), vocabularies
    )


def encode_frame(encoder: FeatureEncoder, frame: pl.DataFrame) -> EncodedBatch:
    """Encode all rows of a canonical frame; equal to ``encoder.encode`` on its values."""
    return assemble([_encode_series(field, frame[field.spec.name]) for field in encoder.fields])


def count_rows(batch: EncodedBatch, num_rows: int) -> NDArray[np.int64]:
    """Return how often each table row occurs in a batch, int64 [R]."""
    return np.bincount(batch.ids, minlength=num_rows)


def _encode_series(field: FieldEncoder, series: pl.Series) -> Column:
    if field.spec.kind == "numeric":
        return Column(field.encode_numbers(series.to_numpy().astype(np.float64)))
    if field.spec.kind == "categorical":
        return Column(_encode_tokens(field, series))
    tail = series.list.tail(field.spec.max_length)
    # An empty list becomes one null when exploded, as does a null: both are MISSING.
    lengths = tail.list.len().fill_null(0).clip(lower_bound=1).cast(pl.Int64).to_numpy()
    return Column(_encode_tokens(field, tail.explode(empty_as_null=True, keep_nulls=True)), lengths)


def _encode_tokens(field: FieldEncoder, series: pl.Series) -> NDArray[np.int64]:
    distinct = series.drop_nulls().unique()
    rows = field.encode_tokens(distinct.to_list())
    encoded = series.replace_strict(distinct, pl.Series(rows), default=field.start + MISSING, return_dtype=pl.Int64)
    return encoded.fill_null(field.start + MISSING).to_numpy().copy()


def _vocabulary(columns: list[pl.Series], min_count: int) -> Vocabulary:
    tokens = pl.concat(
        [c.explode() if isinstance(c.dtype, pl.List) else c for c in (c.alias("token") for c in columns)]
    )
    counts = tokens.drop_nulls().value_counts(name="n").filter(pl.col("n") >= min_count)
    return Vocabulary.from_tokens(counts.sort("n", "token", descending=[True, False])["token"].to_list())


def _boundaries(series: pl.Series, bins: int) -> tuple[float, ...]:
    """Place bins − 1 cut points at the quantiles; equal ones fall together, so a spike is a bin of its own."""
    x = series.drop_nulls().to_numpy()
    x = x[np.isfinite(x)]
    if not len(x):
        return ()
    cuts = np.unique(np.quantile(x, np.linspace(0, 1, bins + 1)[1:-1], method="higher"))
    return tuple(float(c) for c in cuts if c > x.min())


def _example(
    series: pl.Series, field: FieldSpec, dtype: TokenType | None
) -> int | float | str | tuple[int | str, ...] | None:
    if field.kind == "numeric":
        middle = series.drop_nulls().quantile(0.5, "nearest")
        return middle if middle is not None and np.isfinite(middle) else None
    flat = series.explode() if isinstance(series.dtype, pl.List) else series
    counts = flat.drop_nulls().alias("token").value_counts(name="n").sort("n", "token", descending=[True, False])
    tokens = [wire_value(t, dtype) for t in counts["token"].head(3).to_list()]
    if field.kind == "sequence":
        return tuple(tokens)
    return tokens[0] if tokens else None


def wire_value(token: str, dtype: TokenType | None) -> int | str:
    """Return a token as a client sends it."""
    return int(token) if dtype == "integer" else token
