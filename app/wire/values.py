"""JSON values → tokens, numbers and times, without the compiled reader; in a request each may be written as text, too."""

from __future__ import annotations

import math
import re

from models.features.field_encoder import split_text
from models.features.token_spelling import INTEGER, MAX_TOKEN_CHARS, spell
from models.schema.feature_schema import TokenType

MAX_NUMBER_CHARS = 64
MAX_TIME_CHARS = 60
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?")
NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)")
EXPECTED = {"integer": "an integer", "boolean": "true or false", "string": "a string"}
BITS = {"1": "true", "0": "false"}


def read_token(value: object, dtype: TokenType) -> str | None:
    """Return a token as it is spelt; ``None`` for an empty text.

    Raises:
        ValueError: it is no token of the type.
    """
    if value is None:
        return None
    token = _spell(value)
    if token is not None and dtype == "boolean":
        token = BITS.get(token, token)
    is_wrong = token and (
        (dtype == "integer" and not INTEGER.fullmatch(token)) or (dtype == "boolean" and token not in BITS.values())
    )
    if token is None or is_wrong:
        raise ValueError(f"expected {EXPECTED[dtype]}, or null")
    return token or None


def read_sequence(value: object, dtype: TokenType, separator: str) -> list[str] | None:
    """Return the tokens of a list, or of a text that joins them.

    Raises:
        ValueError: it is no list, or one of the values is no token of the type.
    """
    if value is None:
        return None
    values = split_text(value, separator) if isinstance(value, str) else value
    try:
        if not isinstance(values, list):
            raise ValueError("no list")
        tokens = [read_token(item, dtype) for item in values]
    except ValueError:
        raise ValueError(f"expected a list of items, each {EXPECTED[dtype]}, or null") from None
    return [token for token in tokens if token is not None]


def read_number(value: object) -> float | None:
    """Return a number; ``None`` for a text that is empty or says that it is not finite.

    Raises:
        ValueError: it is neither a finite number nor the text of one.
    """
    if value is None:
        return None
    try:
        if isinstance(value, str) and len(value) <= MAX_NUMBER_CHARS:
            text = value.strip(" ").lower()
            if not text or NOT_FINITE.fullmatch(text):
                return None
            number = float(text) if NUMBER.fullmatch(text) else math.nan
            if math.isinf(number):
                return None
        else:
            number = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError("expected a finite number, or null")
    return number


def read_time(value: object) -> str | None:
    """Return the text of a time, as a number or text says it; ``None`` for an empty text.

    Raises:
        ValueError: it is neither.
    """
    if value is None:
        return None
    text = None if isinstance(value, bool) else _spell(value)
    if text is None:
        raise ValueError("expected a time as a number or a text, or null")
    return text[:MAX_TIME_CHARS] or None


def _spell(value: object) -> str | None:
    # The spelling of a scalar; None for any other value.
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, int) and abs(value) >= 10**MAX_TOKEN_CHARS:
        return None
    return spell(str(value)) if isinstance(value, str | int | float) else None
