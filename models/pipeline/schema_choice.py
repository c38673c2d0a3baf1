"""The schema that a command works with: the one that is given, or one that is inferred, explained and written."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from models.data.schema_inference import infer_schema
from models.errors import ModelsError
from models.schema.feature_schema import FeatureSchema, dump_schema, load_schema


def schema_of(given: Path | None, label: str | None, patterns: Sequence[str], inferred_to: Path) -> FeatureSchema:
    """Return the schema of a log.

    Args:
        given: a schema file.
        label: without a file: the column that an inferred schema predicts.
        patterns: paths or glob patterns of the log.
        inferred_to: where an inferred schema is written, with its reasons.

    Raises:
        ModelsError: neither is given, the file is no schema, or none can be inferred.
    """
    if given is not None:
        return load_schema(given)
    if label is None:
        raise ModelsError("give --schema FILE, or --label COLUMN to have a schema inferred")
    inferred = infer_schema(patterns, label)
    inferred_to.write_text(dump_schema(inferred.schema, inferred.reasons), encoding="utf-8")
    width = max(map(len, inferred.reasons))
    lines = [
        f"no schema given; inferred from the data and written to {inferred_to}, edit it and pass it with --schema:"
    ]
    lines += [f"  {name:{width}}  {reason}" for name, reason in inferred.reasons.items()]
    sys.stderr.write("\n".join(lines) + "\n")
    return inferred.schema
