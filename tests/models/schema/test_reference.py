"""``docs/schema.md`` is what the Pydantic models accept."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from models.schema.feature_schema import FeatureSchema
from models.schema.reference import EXAMPLE, EXAMPLES, TABLE_KEYS, TABLES, reference

PAGE = Path(__file__).parents[3] / "docs" / "schema.md"
KEYS = [(table, key) for table, values in EXAMPLES.items() for key in values]
FIELDS = [{"name": name, "kind": "categorical"} for name in ("device", "ad_category", "ad_id")]
SPLITS: list[dict[str, Any]] = [{}, {"column": "time"}, {"column": "time", "validation_from": 20220502}]


def test_the_page_is_made_from_the_models() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "python -m models.schema.reference > docs/schema.md"


@pytest.mark.parametrize("table", TABLES)
def test_every_key_has_an_example_and_a_meaning(table: str) -> None:
    described = TABLES[table][1].model_json_schema(by_alias=True)["properties"]
    assert list(EXAMPLES[table]) == [key for key in described if table or key not in TABLE_KEYS]
    assert all("description" in key for key in described.values())


def documents(table: str, key: str) -> list[dict[str, Any]]:
    """Return schemas with the example of a key, of which at least one must be right: what else it needs differs."""
    value = EXAMPLES[table][key]
    whole = {"label": "click", "field": FIELDS}
    if table == "":
        return [{**whole, key: value}]
    if table == "[split]":
        return [{**whole, "split": {**split, key: value}} for split in SPLITS]
    if table == "[log]":
        return [{**whole, "log": {key: value}}]
    kinds = ("categorical", "numeric", "sequence")
    return [
        {**whole, **split, "field": [*FIELDS, {"name": "x", "kind": kind, key: value}]}
        for kind in kinds
        for split in ({}, {"split": {"column": "time"}})
    ]


def is_right(document: dict[str, Any]) -> bool:
    try:
        FeatureSchema.model_validate(document)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize(("table", "key"), KEYS, ids=lambda part: part or "top")
def test_examples_are_right(table: str, key: str) -> None:
    assert any(map(is_right, documents(table, key)))


def test_the_small_file_is_right() -> None:
    assert is_right(tomllib.loads(EXAMPLE))
