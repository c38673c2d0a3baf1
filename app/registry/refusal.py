"""A version that was refused, and when to look at it again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from app.registry.file_watch import Stamp, stamp_of
from models.artifact.current import Current
from models.artifact.manifest import FILES, MANIFEST, OPTIONAL_FILES
from models.errors import ArtifactError

FIRST_RETRY_S = 1.0
LAST_RETRY_S = 60.0
RETRY_GROWTH = 2.0
PASSING = ("missing", "failed")
"""Reasons that may pass by themselves: files that are not there yet; no descriptors, no memory, a disk that fails."""

Stamps = list[Stamp]


class Refusal:
    """What was refused and why.

    A damaged version is due for another look when one of its files changes; one that was refused for a passing reason
    also after 1 s, then after pauses that double up to a minute.

    Args:
        target: what ``current`` asked for; ``None`` when ``current`` itself cannot be read.
        stamps: of the version's files before they were read; see `stamps_of`.
        error: why it was refused.
        before: the refusal before this one, whose pauses go on where it had the same target.
        clock: seconds, never going back.
    """

    def __init__(
        self,
        root: Path,
        target: Current | None,
        stamps: Stamps,
        error: ArtifactError,
        before: Refusal | None,
        clock: Callable[[], float],
    ) -> None:
        self.target = target
        self._root = root
        self._stamps = stamps
        self._clock = clock
        self._pause_s = FIRST_RETRY_S
        if before is not None and (before.target, before._stamps) == (target, stamps):
            self._pause_s = min(LAST_RETRY_S, before._pause_s * RETRY_GROWTH)
        self._retry_at = clock() + self._pause_s if error.reason in PASSING else float("inf")
        self.problem = {
            "version": "-" if target is None else target.version,
            "reason": error.reason,
            "message": str(error),
        }

    def is_due(self) -> bool:
        """Return whether another look may end otherwise."""
        return self._clock() >= self._retry_at or stamps_of(self._root, self.target) != self._stamps


def stamps_of(root: Path, target: Current | None) -> Stamps:
    """Return a stamp of each file of a version, links not followed."""
    if target is None:
        return []
    directory = root / target.version
    return [stamp_of(directory / name, os.lstat) for name in ("", MANIFEST, *FILES, *OPTIONAL_FILES)]
