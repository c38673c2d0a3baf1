"""The schema that a command works with: the one that is given, or one that is inferred, explained and written."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from models.data.schema_inference import infer_schema
from models.errors import ModelsError, SchemaError
from models.schema.feature_schema import FeatureSchema, Split, load_schema
from models.schema.toml_writing import dump_schema
from models.schema.validation_errors import describe_validation_error


def schema_of(given: Path | None, label: str | None, patterns: Sequence[str], inferred_to: Path) -> FeatureSchema:
    """Return the schema of a log.

    Args:
        given: a schema file.
        label: without a file: the column that an inferred schema predicts.
        patterns: paths or glob patterns of the log.
        inferred_to: where an inferred schema is written, with its reasons; beside it if there is another file.

    Raises:
        ModelsError: neither is given, the file is no schema, or none can be inferred.
    """
    if given is not None:
        return load_schema(given)
    if label is None:
        raise ModelsError("give --schema FILE, or --label COLUMN to have a schema inferred")
    inferred = infer_schema(patterns, label)
    written_to = _write(dump_schema(inferred.schema, inferred.reasons), inferred_to)
    width = max(map(len, inferred.reasons))
    lines = [f"no schema given; inferred from the data and written to {written_to}, edit it and pass it with --schema:"]
    lines += [f"  {name:{width}}  {reason}" for name, reason in inferred.reasons.items()]
    lines += [f"warning: {warning}" for warning in inferred.warnings]
    sys.stderr.write("\n".join(lines) + "\n")
    return inferred.schema


def with_test_fraction(schema: FeatureSchema, fraction: float) -> FeatureSchema:
    """Return the schema with another share of the rows in the test part.

    Raises:
        SchemaError: it is no share, or the schema divides the rows by dates.
    """
    split = schema.split
    changes: dict[str, object] = {"test_fraction": fraction}
    if split.validation_from is not None:
        if fraction != 0:
            raise SchemaError("--test-fraction: the schema divides the rows by 'validation_from'")
        last = split.validation_from if split.test_from is None else split.test_from
        changes |= {"validation_from": last, "test_from": None}
    try:
        return schema.model_copy(update={"split": Split.model_validate({**split.model_dump(), **changes})})
    except ValidationError as error:
        raise SchemaError(f"--test-fraction: {describe_validation_error(error)}") from error


def _write(text: str, path: Path) -> Path:
    """Write an inferred schema; a file that a person may have edited is kept, and the new one is written beside it."""
    if path.exists() and path.read_text(encoding="utf-8") != text:
        sys.stderr.write(f"{path} is kept: it is not what is inferred now\n")
        path = path.with_name(f"{path.stem}-inferred{path.suffix}")
    path.write_text(text, encoding="utf-8")
    return path
