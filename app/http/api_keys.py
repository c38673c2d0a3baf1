"""API keys: who may call which route, and how often.

A key file has a line for each key, ``name scopes sha256 [requests per second]``; keys themselves are nowhere but with
their owners. ``python -m app.keys NAME SCOPES [RATE]`` makes a key and its line. The file is followed while the service
runs, so keys rotate without a restart: put the new line in, move the clients, take the old line out. A file that cannot
be read or has a wrong line lets nobody in.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from app.problems import Problem

log = logging.getLogger("ctrserve.keys")

KeyScope = Literal["predict", "metrics", "admin"]
"""What a key may allow. Each route declares the one that it asks for."""

LINE = re.compile(r"([\w.-]{1,64})\s+([a-z,]+)\s+([0-9a-f]{64})(?:\s+([0-9]+(?:\.[0-9]+)?))?", re.ASCII)


@dataclass(frozen=True)
class Key:
    """One line of a key file: ``digest`` is SHA-256 of the key, ``rate_rps`` its quota, where it has one."""

    name: str
    scopes: frozenset[str]
    digest: bytes
    rate_rps: float | None = None


def parse_keys(text: str) -> tuple[Key, ...]:
    """Read a key file.

    Raises:
        ValueError: a line that is none, naming its number and nothing of its content, or no line at all.
    """
    keys = []
    for number, line in enumerate(text.splitlines(), 1):
        content = line.split("#", 1)[0].strip()
        if not content:
            continue
        found = LINE.fullmatch(content)
        if found is None or not set(found[2].split(",")) <= set(get_args(KeyScope)):
            raise ValueError(f"line {number} is not 'name scopes sha256 [requests per second]'")
        rate = float(found[4]) if found[4] else None
        if rate == 0:
            raise ValueError(f"line {number} has a quota of 0; take the line out to revoke the key")
        keys.append(Key(found[1], frozenset(found[2].split(",")), bytes.fromhex(found[3]), rate))
    if not keys:
        raise ValueError("there is no key in it")
    return tuple(keys)


class Bucket:
    """A token bucket: ``rate`` requests a second on average, and a second's worth at once."""

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self.rate = rate
        self._clock = clock
        self._size = max(1.0, rate)
        self._tokens, self._at = self._size, clock()

    def take(self) -> float:
        """Take a token and return 0, or return the seconds until there is one."""
        now = self._clock()
        self._tokens, self._at = min(self._size, self._tokens + (now - self._at) * self.rate), now
        if self._tokens < 1:
            return (1 - self._tokens) / self.rate
        self._tokens -= 1
        return 0.0


class KeyFile:
    """The keys that are valid now.

    Args:
        path: of the key file.
        num_workers: processes that share a key's quota evenly.
        clock: seconds, never going back.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no key file.
    """

    def __init__(self, path: Path, num_workers: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._num_workers = num_workers
        self._clock = clock
        self._text: str | None = path.read_text(encoding="utf-8")
        self._keys = {key.digest: key for key in parse_keys(self._text)}
        self._buckets: dict[Key, Bucket] = {}

    def refresh(self) -> None:
        """Read the file again; keys that are no longer in it are refused from the next request on."""
        try:
            text = self._path.read_text(encoding="utf-8")
            if text == self._text:
                return
            keys = {key.digest: key for key in parse_keys(text)}
        except (OSError, ValueError) as error:
            if self._text is not None:
                reason = error.strerror if isinstance(error, OSError) else error
                log.error("the key file cannot be used, so no key is valid: %s", reason)
            self._text, self._keys = None, {}
            return
        self._text, self._keys = text, keys
        self._buckets = {key: bucket for key, bucket in self._buckets.items() if keys.get(key.digest) == key}
        log.info("%d keys", len(keys))

    def identify(self, headers: Mapping[bytes, bytes]) -> Key:
        """Return the key that a request gives.

        Raises:
            Problem: ``unauthorized``.
        """
        # The key itself is never compared, so how long this takes tells nothing about it.
        key = self._keys.get(hashlib.sha256(given_key(headers)).digest())
        if key is None:
            raise Problem("unauthorized")
        return key

    def admit(self, key: Key, scope: KeyScope) -> None:
        """Let a request in, and count it for its key's quota.

        Raises:
            Problem: ``forbidden`` or ``quota_exceeded``.
        """
        if scope not in key.scopes:
            raise Problem("forbidden", f"the key does not allow '{scope}'")
        if key.rate_rps is not None:
            bucket = self._buckets.get(key)
            if bucket is None:
                bucket = self._buckets[key] = Bucket(key.rate_rps / self._num_workers, self._clock)
            if wait_s := bucket.take():
                raise Problem("quota_exceeded", retry_after_s=math.ceil(wait_s))


def given_key(headers: Mapping[bytes, bytes]) -> bytes:
    """Return the key that a request gives: ``X-API-Key``, a bearer token, or the password of a browser's log-in.

    >>> given_key({b"authorization": b"Bearer abc"}), given_key({b"authorization": b"Basic bWU6YWJj"}), given_key({})
    (b'abc', b'abc', b'')
    """
    given = headers.get(b"x-api-key")
    if given is not None:
        return given
    scheme, _, value = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer":
        return value
    if scheme.lower() == b"basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return b""


def refuse_browsers(headers: Mapping[bytes, bytes]) -> None:
    """Refuse a request that another site's page made a browser send.

    Raises:
        Problem: ``forbidden``.
    """
    if b"origin" in headers or headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin"):
        raise Problem("forbidden", "not from a page of another site")
