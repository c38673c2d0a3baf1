"""Bytes of a request → rows of the table in one pass, compiled; the wire and the encoder do the same where it does not.

What it takes has the values that they give, to the bit (tested by property). It leaves to them whatever is wrong, what
has fields that the model has not, and everything on a machine that had no C compiler when this was installed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from models.features.encoder import EncodedBatch, FeatureEncoder
from models.features.field_encoder import FieldEncoder

try:
    from models._native import RowReader as CompiledReader
except ImportError:  # built without a compiler
    CompiledReader = None  # type: ignore[assignment,misc]

TEXT, INTEGER, NUMBER = range(3)


class Reading(NamedTuple):
    """The impressions of a request, encoded, and how many values of fields were MISSING and OOV, by the field's name."""

    batch: EncodedBatch
    missing: Mapping[str, int]
    unseen: Mapping[str, int]


class RowReader:
    """Reads the bodies of ``/predict`` for one encoder, rows (``instances``) and columns (``inputs``).

    Args:
        encoder: whose rows are wanted.
        max_rows: most rows in a request.
        max_chars: most characters of a token.
        max_sequence: most tokens of a sequence.
        pause: called between pieces of work of less than a millisecond.
    """

    def __init__(
        self,
        encoder: FeatureEncoder,
        max_rows: int,
        max_chars: int,
        max_sequence: int,
        pause: Callable[[], None] = lambda: None,
    ) -> None:
        self._num_fields = len(encoder.fields)
        self._read = None
        if CompiledReader is None:
            return
        compiled = CompiledReader(self._num_fields, max_rows, max_chars, max_sequence)
        owners = {f.name: f for f in encoder.schema.features.fields}
        places: dict[str, int] = {}
        for field in encoder.fields:
            block = field.spec.block
            pause()
            if field.spec.kind != "numeric" and block not in places:
                buckets = owners[block].buckets
                if buckets is None:
                    v = encoder.vocabularies[block]
                    places[block] = compiled.add_vocabulary(v.hashes, v.positions, v.ends, v.text)
                else:
                    places[block] = compiled.add_hashing(buckets)
            length = field.spec.max_length if field.spec.kind == "sequence" else 0
            boundaries = np.ascontiguousarray(field.boundaries, np.float64)
            place = places.get(block, -1)
            compiled.add_field(field.spec.name, _kind(field), place, field.start, length, boundaries)
        self._read = compiled.read

    def read(self, body: bytes) -> Reading | None:
        """Return a request's impressions, or ``None`` where the wire has to look at it."""
        if self._read is None:
            return None
        found = self._read(body)
        if found is None:
            return None
        ids, offsets, weights, missing, unseen = found
        rows = np.frombuffer(ids, np.int64)
        if offsets is None or weights is None:
            return Reading(EncodedBatch.single(rows, self._num_fields), missing, unseen)
        batch = EncodedBatch(
            rows, np.frombuffer(weights, np.float32), np.frombuffer(offsets, np.int64), self._num_fields
        )
        return Reading(batch, missing, unseen)


def _kind(field: FieldEncoder) -> int:
    if field.spec.kind == "numeric":
        return NUMBER
    return INTEGER if field.dtype == "integer" else TEXT
