"""Writes a schema as the TOML that a person can edit."""

from __future__ import annotations

import json
from collections.abc import Mapping

from models.schema.feature_schema import FeatureSchema


def dump_schema(schema: FeatureSchema, comments: Mapping[str, str] | None = None) -> str:
    """Return a schema as TOML, without the options that have their defaults; ``comments`` are written above the fields."""
    document = schema.model_dump(mode="json", exclude_defaults=True, by_alias=True)
    tables = {key: document.pop(key) for key in ("log", "split") if key in document}
    fields = document.pop("field")
    lines = [f"{key} = {_toml(value)}" for key, value in document.items()]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
    for field in fields:
        note = (comments or {}).get(field["name"])
        lines += [
            "",
            *([f"# {note}"] if note else []),
            "[[field]]",
            *(f"{key} = {_toml(value)}" for key, value in field.items()),
        ]
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    # JSON's scalars and arrays of scalars are valid TOML, except that TOML wants DEL escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
