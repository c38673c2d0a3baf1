"""Decides whether a field's tokens are integers or strings on the wire."""

from __future__ import annotations

import polars as pl
from polars.datatypes import DataTypeClass

from models.errors import LogError
from models.schema.feature_schema import FeatureSchema, FieldSpec, TokenType


def decide_type(field: FieldSpec, stated: TokenType | None, tokens: pl.Series) -> TokenType:
    """Return the type of a field's tokens: the schema's, else that of the file's column, else by their spelling.

    Args:
        field: the field.
        stated: the type of the file's column; ``None`` for text files.
        tokens: String, every token that the field has in the log, or at least one that is not an integer.

    Raises:
        LogError: the schema or the file says that the tokens are integers, but some are not.
    """
    dtype = field.dtype or stated
    if dtype == "string":
        return dtype
    by_content: TokenType = "integer" if are_integers(tokens) else "string"
    if dtype == "integer" != by_content:
        raise LogError(f"column {field.name!r}: holds tokens that are not whole numbers, expected 'integer' ones")
    return by_content


def stated_types(columns: pl.Schema, schema: FeatureSchema) -> dict[str, TokenType]:
    """Return the token types that the column types of a Parquet file state, by field; a column of nulls states none."""
    types: dict[str, TokenType] = {}
    for field in schema.fields:
        dtype = columns[field.name]
        inner = dtype.inner if isinstance(dtype, pl.List) else dtype
        if field.kind != "numeric" and inner != pl.Null:
            types[field.name] = "integer" if inner.is_numeric() or inner == pl.Boolean else "string"
    return types


def can_be_token(dtype: pl.DataType | DataTypeClass) -> bool:
    """Whether values of a column type can be cast to tokens without loss."""
    return dtype.is_integer() or dtype in (pl.String, pl.Boolean, pl.Categorical, pl.Enum, pl.Date, pl.Null)


def are_integers(tokens: pl.Series) -> bool:
    """Whether each token is the decimal spelling of an int64, so that ``str(int(token))`` gives it back unchanged."""
    distinct = tokens.drop_nulls().unique()
    return bool((distinct.cast(pl.Int64, strict=False).cast(pl.String) == distinct).fill_null(value=False).all())
