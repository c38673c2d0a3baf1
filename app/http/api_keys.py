"""API keys: who may call which path, and how often.

A key file has a line for each key, ``name scopes sha256 [requests per second]``; keys themselves are nowhere but with
their owners. ``python -m app.keys NAME SCOPES [RATE]`` makes a key and its line. The file is followed while the service
runs, so keys rotate without a restart: put the new line in, move the clients, take the old line out.
"""

from __future__ import annotations

import hashlib
import hmac
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

Permission = Literal["predict", "metrics", "admin"]

PERMISSIONS: Mapping[str, Permission] = {
    "/predict": "predict",
    "/rank": "predict",
    "/model": "predict",
    "/metrics": "metrics",
    "/catalog": "admin",
    "/admin/reload": "admin",
    "/admin/rollback": "admin",
}
"""What a key must allow, by path. Health and documentation ask for none; a test walks all routes."""

LINE = re.compile(r"([\w.-]{1,64})\s+([a-z,]+)\s+([0-9a-f]{64})(?:\s+([0-9]+(?:\.[0-9]+)?))?", re.ASCII)


@dataclass(frozen=True)
class Key:
    """One line of a key file: ``digest`` is SHA-256 of the key, ``rate_rps`` its quota, where it has one."""

    name: str
    permissions: frozenset[str]
    digest: bytes
    rate_rps: float | None = None


def parse_keys(text: str) -> tuple[Key, ...]:
    """Read a key file.

    Raises:
        ValueError: a line that is none, naming its number and nothing of its content.
    """
    keys = []
    for number, line in enumerate(text.splitlines(), 1):
        content = line.split("#", 1)[0].strip()
        if not content:
            continue
        found = LINE.fullmatch(content)
        if found is None or not set(found[2].split(",")) <= set(get_args(Permission)):
            raise ValueError(f"line {number} is not 'name scopes sha256 [requests per second]'")
        rate = float(found[4]) if found[4] else None
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
        self._text = path.read_text(encoding="utf-8")
        self._keys = parse_keys(self._text)
        self._buckets: dict[str, Bucket] = {}
        self._met: dict[bytes, Key] = {}
        """Keys that have been given, and whose they are: no more than there are in the file."""

    def refresh(self) -> None:
        """Read the file if it has changed; what is no key file is not used, and the keys stay as they are."""
        try:
            text = self._path.read_text(encoding="utf-8")
            if text == self._text:
                return
            self._text = text
            self._keys = parse_keys(text)
        except (OSError, ValueError) as error:
            log.error("the key file cannot be used, the keys before stay valid: %s", type(error).__name__)
            return
        self._buckets, self._met = {}, {}
        log.info("%d keys", len(self._keys))

    def admit(
        self, path: str, headers: Mapping[bytes, bytes], *, is_counted: bool = False
    ) -> tuple[str | None, Problem | None]:
        """Return the name of a request's key and, if it must not be let in, ``unauthorized``, ``forbidden`` or ``quota_exceeded``.

        A path that asks for no key lets everybody in.

        Args:
            path: of the request.
            headers: of the request.
            is_counted: whether this very request has been let in before, so that its quota is not asked again.
        """
        wanted = PERMISSIONS.get(path)
        if wanted is None:
            return None, None
        key = self._find(headers)
        if key is None:
            return None, Problem("unauthorized", headers={"WWW-Authenticate": "Bearer"})
        if wanted not in key.permissions:
            return key.name, Problem("forbidden", f"the key does not allow '{wanted}'")
        if key.rate_rps is not None and not is_counted:
            bucket = self._buckets.get(key.name)
            if bucket is None:
                bucket = self._buckets[key.name] = Bucket(key.rate_rps / self._num_workers, self._clock)
            if wait_s := bucket.take():
                return key.name, Problem("quota_exceeded", headers={"Retry-After": str(math.ceil(wait_s))})
        return key.name, None

    def _find(self, headers: Mapping[bytes, bytes]) -> Key | None:
        given = headers.get(b"x-api-key")
        if given is None:
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            if scheme.lower() != b"bearer":
                return None
        found = self._met.get(given)
        if found is not None:
            return found
        digest = hashlib.sha256(given).digest()
        for key in self._keys:  # all of them, so that the time tells nothing
            if hmac.compare_digest(key.digest, digest):
                found = self._met[given] = key
        return found


def refuse_browsers(headers: Mapping[bytes, bytes]) -> None:
    """Refuse a request that another site's page made a browser send.

    Raises:
        Problem: ``forbidden``.
    """
    if b"origin" in headers or headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin"):
        raise Problem("forbidden", "not from a page of another site")
