"""Decides what a field's tokens are in a request: integers, truth values or strings."""

from __future__ import annotations

import polars as pl

from models.errors import LogError
from models.features.token_spelling import WHOLE
from models.schema.feature_schema import FieldSpec, TokenType


def decide_type(field: FieldSpec, tokens: pl.Series) -> TokenType:
    """Return the type of a field's tokens: the schema's, else by their spelling.

    Args:
        field: the field.
        tokens: String, every token that the field has in the log, or at least one that is not of the type of the others.

    Raises:
        LogError: the schema says that the tokens are integers or truth values, but some are not.
    """
    if field.dtype == "string":
        return field.dtype
    by_content: TokenType = "integer" if are_integers(tokens) else "boolean" if are_booleans(tokens) else "string"
    if field.dtype not in (None, by_content):
        raise LogError(f"column {field.name!r}: holds tokens that are not of the schema's type {field.dtype!r}")
    return by_content


def are_integers(tokens: pl.Series) -> bool:
    """Whether each token is a whole number as it is spelt; true if there is none."""
    return bool(tokens.drop_nulls().str.contains(f"^{WHOLE}$").all())


def are_booleans(tokens: pl.Series) -> bool:
    """Whether each token is a truth value as it is spelt."""
    return bool(tokens.drop_nulls().is_in(["true", "false"]).all())
