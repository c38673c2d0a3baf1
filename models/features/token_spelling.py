"""The one spelling of a token, the same for a log of any format and for a request.

A whole number is its digits (``1005.0`` is ``1005``), a truth value is ``true`` or ``false``, and of a long text the first
`MAX_TOKEN_CHARS` characters count. An empty text is a null.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

MAX_TOKEN_CHARS = 256
WHOLE = r"(?:0|-?[1-9][0-9]*)"
"""A whole number as it is spelt."""
INTEGER = re.compile(WHOLE)
_WRITTEN_WHOLE = re.compile(r"(-?(?:0|[1-9][0-9]*))\.0+")
BOOLEANS: Mapping[str, str] = {"True": "true", "TRUE": "true", "False": "false", "FALSE": "false"}
OTHERS = {**BOOLEANS, "-0": "0"}
"""Further tokens that are written in another way than they are spelt."""


def spell(token: str) -> str:
    """Return a token as it is spelt.

    >>> [spell(token) for token in ("1005.0", "-0", "True", "007", "1.50", "a")]
    ['1005', '0', 'true', '007', '1.50', 'a']
    """
    token = token[:MAX_TOKEN_CHARS]
    if "." not in token:  # almost every token
        return OTHERS.get(token, token)
    if whole := _WRITTEN_WHOLE.fullmatch(token):
        return "0" if whole[1] == "-0" else whole[1]
    return token
