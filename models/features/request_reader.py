"""Bytes of a request → rows of the table, compiled: it alone decides which bodies are right.

Without a C compiler `IS_COMPILED` is false, and `app.wire` reads bodies with Pydantic and `Encoder` instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from models.features.encoder import EncodedBatch, Encoder, FeatureEncoder
from models.features.field_encoder import FieldEncoder
from models.schema.feature_schema import Pooling

try:
    from models import _native

    IS_COMPILED = True
except ImportError:  # built without a compiler
    IS_COMPILED = False

TEXT, INTEGER, BOOLEAN, NUMBER = range(4)
POOLINGS: tuple[Pooling, ...] = ("mean", "sqrtn")
"""In the order of the C reader's `enum pooling`."""


class Limits(NamedTuple):
    """The largest request.

    Args:
        max_rows: rows, or candidates.
        max_chars: characters of a token that count, and of a candidate's id.
    """

    max_rows: int
    max_chars: int


class PredictReading(NamedTuple):
    """What a right ``/predict`` body holds.

    Args:
        batch: the impressions.
        missing: values that were absent or null, by the field's name; only fields that have some.
        unseen: values that got the OOV row, likewise.
        unknown_fields: rows that have a field that the model does not have, by a printable form of its name.
    """

    batch: EncodedBatch
    missing: Mapping[str, int]
    unseen: Mapping[str, int]
    unknown_fields: Mapping[str, int]


class RankReading(NamedTuple):
    """What a right ``/rank`` body holds; either ``candidates`` or ``candidate_ids`` is ``None``.

    Args:
        context: one impression of the context's fields, all MISSING if the body has no context; ``None`` if the model
            has no such fields.
        candidates: an impression of the candidate's fields for each candidate; what it lacks is taken from the context.
        candidate_ids: ids in the catalog.
        top_k: how many candidates to return; ``None`` for all.
        missing: as in `PredictReading`, over context and candidates.
        unseen: likewise.
        unknown_fields: likewise.
    """

    context: EncodedBatch | None
    candidates: EncodedBatch | None
    candidate_ids: list[str] | None
    top_k: int | None
    missing: Mapping[str, int]
    unseen: Mapping[str, int]
    unknown_fields: Mapping[str, int]


class Fault(NamedTuple):
    """The first thing that is wrong with a body.

    Args:
        message: what was expected.
        row: its number, if the fault is in a row.
        field: the name of a field of the model or of a part of the body, if the fault is in one.
    """

    message: str
    row: int | None
    field: str | None


def keep_cpu() -> None:
    """Do not yield the CPU."""


class PredictReader:
    """Reads the bodies of ``/predict`` for one encoder: rows (``instances``) or columns (``inputs``).

    Not thread-safe: readings of one reader must not overlap.

    Args:
        encoder: whose rows are wanted.
        limits: of a request.
        yield_cpu: called after each piece of work of less than a millisecond.
    """

    def __init__(self, encoder: FeatureEncoder, limits: Limits, yield_cpu: Callable[[], None] = keep_cpu) -> None:
        self._num_fields = len(encoder.fields)
        self._read = _compile(encoder, limits, yield_cpu).read_predict

    def read(self, body: bytes) -> PredictReading | Fault:
        """Return what a body holds, or what is wrong with it."""
        found, fault = self._read(body)
        if found is None:
            assert fault is not None
            return Fault(*fault)
        batch, missing, unseen, unknown = found
        assert batch is not None, "a right body has rows, and a schema fields"
        return PredictReading(_batch(batch, self._num_fields), missing, unseen, unknown)


class RankReader:
    """Reads the bodies of ``/rank`` for one encoder; otherwise as `PredictReader`."""

    def __init__(self, encoder: FeatureEncoder, limits: Limits, yield_cpu: Callable[[], None] = keep_cpu) -> None:
        sides = encoder.side("context"), encoder.side("candidate")
        self._num_fields = [len(side.fields) for side in sides]
        context, self._candidates = (
            _compile(side, limits, yield_cpu, other.names) for side, other in (sides, sides[::-1])
        )
        self._read = context.read_rank

    def read(self, body: bytes) -> RankReading | Fault:
        """Return what a body holds, or what is wrong with it."""
        found, fault = self._read(self._candidates, body)
        if found is None:
            assert fault is not None
            return Fault(*fault)
        (context, *counts), (candidates, *more_counts), ids, top_k = found
        return RankReading(
            None if context is None else _batch(context, self._num_fields[0]),
            None if candidates is None else _batch(candidates, self._num_fields[1]),
            ids,
            top_k or None,
            *map(add_counts, counts, more_counts),
        )


def add_counts(a: Mapping[str, int], b: Mapping[str, int]) -> Mapping[str, int]:
    """Return the sums of counts by name.

    >>> add_counts({"a": 1, "b": 2}, {"b": 3})
    {'a': 1, 'b': 5}
    """
    return dict(Counter(a) + Counter(b)) if a and b else a or b


def _compile(
    encoder: Encoder, limits: Limits, yield_cpu: Callable[[], None], others: Sequence[str] = ()
) -> _native.RequestReader:
    fields = []
    for field in encoder.fields:
        yield_cpu()
        block = None if field.token_ids is None else field.token_ids.compiled
        length = field.spec.max_length if field.spec.kind == "sequence" else 0
        pooling = POOLINGS.index(field.pooling)
        fields.append((field.spec.name, _kind(field), block, field.start, length, pooling, field.boundaries))
    derivation = encoder.derivation
    log = encoder.log_schema.log
    return _native.RequestReader(
        tuple(fields),
        *limits,
        log.list_separator,
        log.null_values,
        derivation.sources,
        derivation.places,
        derivation.rows_of,
        tuple(others),
    )


def _kind(field: FieldEncoder) -> int:
    if field.spec.kind == "numeric":
        return NUMBER
    return {"integer": INTEGER, "boolean": BOOLEAN}.get(field.dtype or "string", TEXT)


def _batch(arrays: tuple[bytes, bytes | None, bytes | None], num_fields: int) -> EncodedBatch:
    ids, offsets, weights = arrays
    rows = np.frombuffer(ids, np.int64)
    if offsets is None or weights is None:
        return EncodedBatch.single(rows, num_fields)
    return EncodedBatch(rows, np.frombuffer(weights, np.float32), np.frombuffer(offsets, np.int64), num_fields)
