"""Tells whether files have changed. Asked on the event loop: under load, a thread that waits for a core holds the interpreter."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from app.registry.follower import Job

Stamp = tuple[int, ...] | None


class FileWatch:
    """Remembers how files were when last asked about.

    Args:
        paths: the files, which need not exist; links are followed.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = list(paths)
        self._stamps: list[Stamp] = []

    def has_changed(self) -> bool:
        """Return whether a file came, went, was written or was replaced since the last call; ``True`` the first time."""
        stamps = [stamp_of(path) for path in self._paths]
        before, self._stamps = self._stamps, stamps
        return stamps != before

    def forget(self) -> None:
        """Make the next `has_changed` return ``True``."""
        self._stamps = []


def stamp_of(path: Path, ask: Callable[[Path], os.stat_result] = os.stat) -> Stamp:
    """Return what differs between a file and another one in its place; ``None`` when there is no file."""
    try:
        found = ask(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns  # no tool can set ctime back


def when_changed(paths: Iterable[Path], read: Callable[[], object]) -> Job:
    """Return a job that calls ``read`` in a thread when one of the files has changed, and again as long as ``read`` fails."""
    watch = FileWatch(paths)

    async def job() -> None:
        if watch.has_changed():
            try:
                await asyncio.to_thread(read)
            except BaseException:
                watch.forget()
                raise

    return job
