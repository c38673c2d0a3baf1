"""W3C Trace Context: a request keeps the trace that it came with, or begins one; the trace id is also its request id.

Format: ``00-<trace id, 32 hex>-<parent id, 16 hex>-<flags, 2 hex>`` (W3C Recommendation, "traceparent").
"""

from __future__ import annotations

import random
import re

from starlette.types import Scope

TRACEPARENT = re.compile(rb"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})")


def begin_trace(given: bytes | None) -> tuple[str, bytes]:
    """Return a request's id and the ``traceparent`` of its answer.

    Args:
        given: the request's own ``traceparent``; one that is none is ignored, as the recommendation has it.

    >>> begin_trace(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")[0]
    '0af7651916cd43dd8448eb211c80319c'
    >>> len(begin_trace(b"00-junk")[0])
    32
    """
    known = TRACEPARENT.fullmatch(given) if given is not None else None
    if known is not None:
        request_id, flags = known[1].decode(), known[2].decode()
    else:
        request_id, flags = f"{random.getrandbits(128) or 1:032x}", "00"
    return request_id, f"00-{request_id}-{random.getrandbits(64) or 1:016x}-{flags}".encode()


def request_id_of(scope: Scope) -> str | None:
    """Return the id that `app.hot_path` gave to a request."""
    found: str | None = scope.get("state", {}).get("request_id")
    return found
