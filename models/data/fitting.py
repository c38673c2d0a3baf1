"""Fits the encoding of a schema's fields to the training rows of a token log: vocabularies and bin boundaries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.artifact.artifact import Artifact
from models.data.token_index import NULL, TokenIndex
from models.data.token_log import TokenLog
from models.data.warm_start import register_tokens
from models.errors import SchemaError
from models.features.encoder import FeatureEncoder
from models.features.field_encoder import wire_value
from models.features.vocabulary import Vocabulary
from models.schema.feature_schema import DEFAULT_POOLING, FieldSpec, FittedField, FittedSchema, Pooling, TokenType

MAX_NUMBERS = 1_000_000
"""Bin boundaries are placed by at most so many numbers of a field, evenly spaced over the training rows."""
MAX_TABLE_ROWS = 2**31 - 1

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Tally:
    """Counts from one pass over a token log.

    Args:
        counts: by field with tokens, how often the training rows hold each code, int64 [codes].
        seen: by field with tokens, whether any row holds each code, bool [codes].
        numbers: by numeric field, a sample of the training rows' numbers, float64, without nulls.
    """

    counts: dict[str, Counts]
    seen: dict[str, NDArray[np.bool_]]
    numbers: dict[str, NDArray[np.float64]]


def tally(log: TokenLog, train_rows: NDArray[np.int64]) -> Tally:
    """Count a log's codes and collect its numbers; ``train_rows`` int64 are row numbers in the order of the files."""
    masks = np.zeros((log.num_rows, 2), np.bool_)
    masks[train_rows, 0] = True
    masks[train_rows[:: -(-len(train_rows) // MAX_NUMBERS)], 1] = True
    fields = log.schema.fields
    sizes = {f.name: len(log.indexes[f.block]) for f in fields if f.kind != "numeric"}
    counts = {name: np.zeros(size, np.int64) for name, size in sizes.items()}
    seen = {name: np.zeros(size, np.bool_) for name, size in sizes.items()}
    numbers: dict[str, list[NDArray[np.float64]]] = {f.name: [] for f in fields if f.kind == "numeric"}
    for chunk, mask in log.chunks_with(masks):
        is_train, is_sampled = mask.T
        for name, values in chunk.values.items():
            if name in numbers:
                x = values.view(np.float64)[is_sampled]
                numbers[name].append(x[~np.isnan(x)])
            elif name in counts:
                codes = values.view(np.uint32)
                counted = np.repeat(is_train, chunk.lengths[name]) if name in chunk.lengths else is_train
                np.add.at(counts[name], codes[counted], 1)  # bincount would allocate an array of all codes per chunk
                seen[name][codes] = True
    return Tally(counts, seen, {name: np.concatenate(parts) for name, parts in numbers.items()})


def fit_encoder(log: TokenLog, train_rows: NDArray[np.int64], artifact: Artifact | None = None) -> FeatureEncoder:
    """Fit an encoder to the training rows of a log.

    Args:
        log: complete.
        train_rows: int64, row numbers in the order of the files.
        artifact: of a warm start, with the fields of the log's schema. Its tokens, bin boundaries and poolings are kept.

    Raises:
        LogError: the schema or the files say that tokens are integers, but some are not.
        SchemaError: the table would have too many rows, or a token type is not the artifact's.
    """
    known = {} if artifact is None else register_tokens(artifact, log)
    found = tally(log, train_rows)
    dtypes = log.token_types(found.seen)
    vocabularies: dict[str, Vocabulary] = {}
    num_tokens: dict[str, int] = {}
    fitted: list[FittedField] = []
    copies: dict[str, str] = {}  # the block whose tokens a field with rows of its own has
    for i, field in enumerate(log.schema.fields):
        before = None if artifact is None else artifact.schema.fitted[i]
        dtype = dtypes.get(field.name)
        if before is not None and dtype != before.dtype:
            raise SchemaError(f"--init-from: the tokens of field {field.name!r} are not of the artifact's type")
        if field.kind == "numeric":
            x = found.numbers[field.name]
            boundaries = _boundaries(x, field.bins) if before is None else before.boundaries
            num_tokens[field.name] = len(boundaries) + 1
            fitted.append(FittedField(dtype=None, boundaries=boundaries, example=_middle(x)))
            continue
        index = log.indexes[field.block]
        if field.block == field.name and field.buckets is None:
            counts = np.sum([found.counts[f.name] for f in log.schema.fields if f.block == field.name], axis=0)
            if field.name in known:
                codes, earlier_counts = known[field.name]
                counts[codes] += np.maximum(earlier_counts, field.min_count)  # at least so many: known tokens are kept
            kept = _by_frequency(counts, index, field.min_count)
            text = np.frombuffer(kept.str.join("").item().encode(), np.uint8)
            ends = np.cumsum(kept.str.len_bytes().to_numpy(), dtype=np.int64)
            vocabularies[field.name] = Vocabulary.from_text(text, ends)
            num_tokens[field.name] = len(kept)
        elif field.block == field.name and field.buckets is not None:
            num_tokens[field.name] = field.buckets
        example = _example(found.counts[field.name], index, field, dtype)
        pooling: Pooling = "mean"
        if field.kind == "sequence":
            pooling = field.pooling or DEFAULT_POOLING if before is None else before.pooling
        own_rows = field.vocabulary is not None if before is None else before.own_rows
        if own_rows:
            copies[field.name] = field.block
        fitted.append(FittedField(dtype=dtype, example=example, pooling=pooling, own_rows=own_rows))
    num_tokens |= {name: num_tokens[block] for name, block in copies.items()}
    if sum(num_tokens.values()) + 2 * len(num_tokens) > MAX_TABLE_ROWS:
        limit = f"{MAX_TABLE_ROWS:,} table rows"
        raise SchemaError(f"the fields need more than {limit}: raise 'min_count' or set 'buckets'")
    blocks = dict.fromkeys(
        f.name if fit.own_rows else f.block for f, fit in zip(log.schema.fields, fitted, strict=True)
    )
    ordered = {block: num_tokens[block] for block in blocks}
    return FeatureEncoder(FittedSchema(features=log.schema, fitted=tuple(fitted), num_tokens=ordered), vocabularies)


def _by_frequency(counts: Counts, index: TokenIndex, min_count: int) -> pl.Series:
    # The tokens seen at least min_count times, String, ordered by (−count, token).
    codes = np.flatnonzero(counts >= min_count)
    codes = codes[codes != NULL]
    frame = pl.DataFrame({"n": counts[codes], "token": index.tokens(codes)})
    return frame.sort("n", "token", descending=[True, False])["token"]


def _boundaries(x: NDArray[np.float64], bins: int) -> tuple[float, ...]:
    """Return up to ``bins`` − 1 cut points at the quantiles of ``x``, each the next higher value in ``x``, without repeats."""
    x = np.sort(x[np.isfinite(x)])
    if not len(x):
        return ()
    places = np.ceil(np.linspace(0, 1, bins + 1)[1:-1] * (len(x) - 1)).astype(np.int64)
    return tuple(float(cut) for cut in np.unique(x[places]) if cut > x[0])


def _middle(x: NDArray[np.float64]) -> float | None:
    middle = pl.Series(x).quantile(0.5, "nearest")
    return middle if middle is not None and np.isfinite(middle) else None


def _example(
    counts: Counts, index: TokenIndex, field: FieldSpec, dtype: TokenType | None
) -> int | float | str | tuple[int | str, ...] | None:
    # The most frequent token; of a sequence, the three most frequent ones.
    third = np.partition(counts[1:], -3)[-3] if len(counts) > 3 else 0
    common = _by_frequency(counts, index, max(1, int(third)))
    tokens: Sequence[int | str] = [wire_value(t, dtype) for t in common.head(3).to_list()]
    if field.kind == "sequence":
        return tuple(tokens)
    return tokens[0] if tokens else None
