"""What a schema file may say, and what an artifact's schema must say besides."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from models.errors import SchemaError
from models.schema.feature_schema import FeatureSchema, FittedSchema, Kind, load_schema
from models.schema.toml_writing import dump_schema


def schema_of(**field: Any) -> FeatureSchema:
    return FeatureSchema.model_validate({"label": "click", "field": [{"name": "x", **field}]})


@pytest.mark.parametrize(
    ("kind", "option", "value"),
    [("categorical", "pooling", "mean"), ("numeric", "pooling", "sqrtn"), ("sequence", "bins", 5), ("numeric", "buckets", 9)],
)  # fmt: skip
def test_an_option_of_another_kind_is_refused(kind: Kind, option: str, value: object) -> None:
    with pytest.raises(ValidationError, match=f"field 'x': '{option}' does not apply to kind '{kind}'"):
        schema_of(kind=kind, **{option: value})


def test_a_pooling_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValidationError, match="'mean' or 'sqrtn'"):
        schema_of(kind="sequence", pooling="sum")


def test_a_schema_that_is_written_and_read_is_the_same() -> None:
    for pooling in (None, "mean", "sqrtn"):
        schema = schema_of(kind="sequence", pooling=pooling, max_length=7)
        text = dump_schema(schema)
        assert FeatureSchema.model_validate(tomllib.loads(text)) == schema
        assert ("pooling" in text) == (pooling is not None)


@pytest.mark.parametrize(
    ("field", "fitted"),
    [
        ({"kind": "categorical"}, {"dtype": "string", "pooling": "sqrtn"}),
        ({"kind": "numeric"}, {"dtype": None, "pooling": "sqrtn"}),
        ({"kind": "sequence", "pooling": "sqrtn"}, {"dtype": "string"}),
        ({"kind": "sequence", "pooling": "mean"}, {"dtype": "string", "pooling": "sqrtn"}),
        ({"kind": "sequence"}, {"dtype": None}),
        ({"kind": "numeric"}, {"dtype": "string"}),
    ],
)
def test_what_was_fitted_must_fit_the_field(field: dict[str, Any], fitted: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="'fitted' of 'x' does not fit the field"):
        FittedSchema.model_validate(
            {"features": schema_of(**field).model_dump(by_alias=True), "fitted": [fitted], "num_tokens": {"x": 1}}
        )


FIELD = '[[field]]\nname = "user_id"\nkind = "categorical"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (FIELD + '[[field]]\nname = "hour"\nkind = "number"\n', "field 'hour': kind: Input should be 'categorical'"),
        (FIELD + '[[field]]\nname = "hour"\n', "field 'hour': kind: Field required"),
        (FIELD + '[[field]]\nname = "hour"\nkind = "numeric"\nbin = 3\n', "field 'hour': bin: there is no such key"),
        (
            FIELD + '[[field]]\nname = "hour"\nkind = "numeric"\nbins = 1\n',
            "field 'hour': bins: Input should be greater",
        ),
        (FIELD + '[[field]]\nkind = "numeric"\n', "field.2.name: Field required"),
        (FIELD + '[[field]]\nname = 7\nkind = "numeric"\n', "field.2.name: Input should be a valid string"),
        (FIELD + "[split]\ntest_fraction = 2\n", "split.test_fraction: Input should be less than 1"),
        ("segments = 1\n" + FIELD, "segments: Input should be a valid"),
        ("", "field: Field required"),
        ("field = 3", "field: Input should be a valid"),
    ],
)
def test_an_error_in_a_schema_file_names_the_field_and_the_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "schema.toml"
    path.write_text('label = "click"\n' + text, encoding="utf-8")
    with pytest.raises(SchemaError) as caught:
        load_schema(path)
    assert str(caught.value).startswith(f"{path}: {message}")
