"""W3C Trace Context: a request keeps the trace that it came with, or begins one; the trace id is also its request id.

Format: ``00-<trace id, 32 hex>-<parent id, 16 hex>-<flags, 2 hex>`` (W3C Recommendation, "traceparent").
"""

from __future__ import annotations

import random
import re

TRACEPARENT = re.compile(rb"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})")


def begin_trace(given: bytes | None) -> bytes:
    """Return the ``traceparent`` of a request's answer.

    Args:
        given: the request's own ``traceparent``; one that is none is ignored, as the recommendation has it.

    >>> begin_trace(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")[:36]
    b'00-0af7651916cd43dd8448eb211c80319c-'
    >>> len(begin_trace(b"00-junk"))
    55
    """
    span = random.getrandbits(64) or 1
    known = TRACEPARENT.fullmatch(given) if given is not None else None
    if known is None:
        return b"00-%032x-%016x-00" % (random.getrandbits(128) or 1, span)
    return b"00-%b-%016x-%b" % (known[1], span, known[2])
