"""Every key of a schema file, as ``docs/schema.md`` has it: ``python -m models.schema.reference > docs/schema.md``.

Made from the Pydantic models, so that the page is what `models.schema.feature_schema` accepts.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from models.schema.feature_schema import FeatureSchema, FieldSpec, LogFormat, Split

TABLES: Mapping[str, tuple[str, type[BaseModel]]] = {
    "": ("The whole log", FeatureSchema),
    "[log]": ("How text is read", LogFormat),
    "[split]": ("Which rows are for training", Split),
    "[[field]]": ("The inputs", FieldSpec),
}
"""Headings and models by the TOML table that they describe."""
TABLE_KEYS = ("log", "split", "field")
INTRODUCTION = """\
# The schema file

A TOML file says what a log's columns mean: which one is the label, which are inputs, and how rows are split. Without one,
`ctrserve train --label COLUMN` infers it, writes it and says why each column is what it is. `examples/` has whole files.
An unknown key or a value of the wrong type is an error that names the key.

This page is made from the Pydantic models: `python -m models.schema.reference > docs/schema.md`.

A small file with all tables:

```toml
{example}
```
"""
EXAMPLE = """\
label = "click"
group = "user_id"

[log]
list_separator = "|"

[split]
column = "time"

[[field]]
name = "user_id"
kind = "categorical"

[[field]]
name = "clicked_ads"
kind = "sequence"
vocabulary = "ad_id"

[[field]]
name = "ad_id"
kind = "categorical"
side = "candidate"

[[field]]
name = "price"
kind = "numeric"
side = "candidate\""""
EXAMPLES: Mapping[str, Mapping[str, object]] = {
    "": {
        "label": "click",
        "positive": "clicked",
        "impressions": "shown",
        "group": "user_id",
        "negatives_kept": 0.1,
        "segments": ["device", "ad_category"],
    },
    "[log]": {
        "columns": ["click", "user_id", "ad_id"],
        "separator": ";",
        "null_values": ["NULL", "-"],
        "list_separator": "^",
        "decimal_comma": True,
        "quoted": False,
    },
    "[split]": {
        "column": "time",
        "format": "%d.%m.%Y %H:%M",
        "clock": "hour",
        "by_order": True,
        "validation_from": 20220503,
        "test_from": 20220504,
        "validation_fraction": 0.05,
        "test_fraction": 0.0,
    },
    "[[field]]": {
        "name": "user_id",
        "kind": "categorical",
        "side": "candidate",
        "dtype": "string",
        "derived": "hour",
        "min_count": 5,
        "buckets": 100_000,
        "vocabulary": "ad_id",
        "max_length": 20,
        "pooling": "mean",
        "bins": 50,
    },
}
"""A value of each key, by table."""


def reference() -> str:
    """Return the page, Markdown."""
    return "\n".join([INTRODUCTION.format(example=EXAMPLE), *_sections()])


def _sections() -> Iterator[str]:
    for table, (heading, model) in TABLES.items():
        yield f"## {heading}{f': `{table}`' if table else ''}\n"
        about = " ".join((model.__doc__ or "").replace("``", "`").split("\n\n")[-1].split())
        yield f"{about}\n"
        yield "| key | value | default | meaning | example |\n|---|---|---|---|---|"
        schema = model.model_json_schema(by_alias=True)
        for key, described in schema["properties"].items():
            if table or key not in TABLE_KEYS:
                default = "needed" if key in schema.get("required", ()) else _default(described["default"])
                example = f"`{key} = {json.dumps(EXAMPLES[table][key], ensure_ascii=False)}`"
                yield f"| `{key}` | {_type(described)} | {default} | {_meaning(described)} | {_cell(example)} |"
        yield ""


def _meaning(described: Mapping[str, Any]) -> str:
    return _cell(" ".join(described["description"].replace("``", "`").split()))


def _default(value: object) -> str:
    return "" if value in (None, []) else f"`{_cell(json.dumps(value))}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _type(described: Mapping[str, Any]) -> str:
    if "anyOf" in described:
        kinds = [_type(option) for option in described["anyOf"] if option["type"] != "null"]
        return " or ".join(k for k in kinds if not (k == "integer" and "number" in kinds))
    if "enum" in described:
        return ", ".join(f"`{value}`" for value in described["enum"])
    if described["type"] == "array":
        return f"list of {_type(described['items'])}s"
    names = {"string": "text", "boolean": "`true`, `false`"}
    return f"{names.get(described['type'], described['type'])}{_range(described)}"


def _range(described: Mapping[str, Any]) -> str:
    if described["type"] == "string" and "maxLength" in described:
        most = described["maxLength"]
        return " of 1 character" if most == 1 else f" of at most {most} characters"
    words = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
    return "".join(f" {word} {described[bound]:,}" for bound, word in words.items() if bound in described)


if __name__ == "__main__":
    sys.stdout.write(reference())
