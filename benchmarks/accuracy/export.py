"""Makes the inputs of the peers with ctrserve's split and encoder, so that all systems have the same rows and columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.accuracy.inputs import Examples, Inputs
from models.data.impressions import read_frame
from models.data.preparation import Prepared, prepare
from models.data.time_format import with_time_format
from models.features.packed_rows import PackedRows
from models.schema.feature_schema import FeatureSchema

SHIFT = 1
"""Added to local ids, since 0 is padding."""


@dataclass(frozen=True)
class Exported:
    """The inputs of the peers, the prepared log, the canonical test rows and their groups."""

    inputs: Inputs
    prepared: Prepared
    test: pl.DataFrame
    groups: NDArray[Any] | None


def export(data: Sequence[str], schema: FeatureSchema, folder: Path) -> Exported:
    """Read a log that fits in memory.

    Args:
        data: paths or glob patterns.
        schema: of the log, split by a column or by order.
        folder: for the files of `models.data.preparation.prepare`.
    """
    schema = with_time_format(data, schema)
    frame = read_frame(data, schema)  # by time, as the parts are
    prepared = prepare(data, schema, 0, frame.height, folder, lambda _: None)
    if "test" not in prepared.held_out or not (schema.split.column or schema.split.by_order):
        raise SystemExit("the schema must split off a test part by a column or by order")
    examples = {"train": prepared.train[0].load()}
    examples |= {name: held_out.part.load() for name, held_out in prepared.held_out.items()}
    parts, first = {}, 0
    for name, part in examples.items():
        rows = frame[first : first + len(part.labels)]
        first += rows.height
        if not (rows[schema.label].to_numpy() == part.labels).all():
            raise SystemExit(f"{name}: the frame's order is not the split's")
        parts[name] = _examples(prepared, part.rows, part.labels, rows)
    groups = None if schema.group is None else np.unique(rows[schema.group].to_numpy(), return_inverse=True)[1]
    columns = _columns(schema)
    sizes = [prepared.encoder.schema.num_tokens[schema.fields[f].block] + 2 + SHIFT for f in columns]
    inputs = Inputs(
        parts=parts,
        columns=[schema.fields[f].name for f in columns],
        sizes=sizes,
        numeric=[f.name for f in schema.fields if f.kind == "numeric"],
        shares={f.name: f.block for f in schema.fields if f.kind == "sequence"},
    )
    return Exported(inputs, prepared, rows, groups)


def _columns(schema: FeatureSchema) -> list[int]:
    # Fields of one token: the categorical ones, then the bins of the numeric ones.
    return [i for kind in ("categorical", "numeric") for i, f in enumerate(schema.fields) if f.kind == kind]


def _examples(prepared: Prepared, rows: PackedRows, labels: NDArray[np.float32], frame: pl.DataFrame) -> Examples:
    schema, F = prepared.schema, rows.num_fields
    starts = np.array([f.start for f in prepared.encoder.fields]) - SHIFT
    lengths = np.ones((len(rows), F), np.int64) if rows.lengths is None else rows.lengths.astype(np.int64)
    ends = np.cumsum(lengths).reshape(-1, F)
    sequences = {}
    for f, field in enumerate(schema.fields):
        if field.kind == "sequence":
            filled = np.arange(field.max_length) < lengths[:, f : f + 1]  # [n, L]
            at = (ends[:, f] - lengths[:, f])[:, np.newaxis] + np.arange(field.max_length)
            sequences[field.name] = np.where(filled, rows.ids[np.where(filled, at, 0)] - starts[f], 0).astype(np.int32)
    columns = _columns(schema)
    tokens = rows.ids[ends[:, columns] - 1] - starts[columns]
    numeric = [f.name for f in schema.fields if f.kind == "numeric"]
    numbers = frame.select(pl.col(numeric).cast(pl.Float32).fill_null(float("nan"))).to_numpy()
    return Examples(labels, tokens.astype(np.int32), numbers.reshape(len(labels), -1), sequences)
