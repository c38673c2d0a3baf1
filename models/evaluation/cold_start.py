"""Metrics of the rows whose user or item the training part does not have."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from models.evaluation.metrics import Floats, Labels, Metrics, evaluate
from models.features.encoder import FeatureEncoder
from models.features.packed_rows import PackedRows
from models.schema.feature_schema import FeatureSchema


def cold_fields(encoder: FeatureEncoder) -> dict[str, int]:
    """Return the positions of the user field and of the item field, if the schema has them.

    The user is the group column if that is a field; the item is the candidate field with the most tokens.
    """
    schema: FeatureSchema = encoder.schema.features
    named = {f.name: i for i, f in enumerate(schema.fields) if f.kind == "categorical" and f.buckets is None}
    found = {}
    if schema.group in named:
        found["unseen user"] = named[schema.group]
    items = [f for f in schema.fields if f.name in named and f.side == "candidate"]
    if items:
        item = max(items, key=lambda f: encoder.schema.num_tokens[f.block])
        found["unseen item"] = named[item.name]
    return found


def cold_starts(
    encoder: FeatureEncoder, rows: PackedRows, labels: Labels, probabilities: Floats
) -> Mapping[str, Metrics]:
    """Return `metrics_of_cold` of the rows whose user or item is out of vocabulary.

    Args:
        encoder: the one that encoded ``rows``.
        rows: B impressions.
        labels: 0 or 1, [B].
        probabilities: float64 [B].
    """
    cold = {name: _values(rows, f) == encoder.oov_rows[f] for name, f in cold_fields(encoder).items()}
    return metrics_of_cold(cold, labels, probabilities)


def metrics_of_cold(
    cold: Mapping[str, NDArray[np.bool_]], labels: Labels, probabilities: Floats
) -> Mapping[str, Metrics]:
    """Return the metrics of the cold rows and of the others, by name, without empty sets.

    Args:
        cold: by the name of `cold_fields`, whether a row is, [B].
        labels: 0 or 1, [B].
        probabilities: float64 [B].
    """
    cold = dict(cold)
    cold |= {name.removeprefix("un"): ~is_cold for name, is_cold in list(cold.items())}
    return {name: evaluate(labels[at], probabilities[at]) for name, at in sorted(cold.items()) if at.any()}


def _values(rows: PackedRows, field: int) -> NDArray[np.int32]:
    # The first table row of one field's bag in every impression, int32 [B].
    if rows.lengths is None:
        return rows.ids.reshape(-1, rows.num_fields)[:, field]
    before = rows.lengths[:, :field].sum(axis=1, dtype=np.int64)
    values: NDArray[np.int32] = rows.ids[rows.row_starts()[:-1] + before]
    return values
