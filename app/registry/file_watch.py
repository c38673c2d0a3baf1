"""Whether files have changed, asked without a thread: under load a thread that waits for a core keeps the interpreter from the loop."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


class FileWatch:
    """Remembers files as they were when last asked about.

    Args:
        paths: of the files; ``None`` is none.
    """

    def __init__(self, paths: Iterable[Path | None]) -> None:
        self._paths = [path for path in paths if path is not None]
        self._stamps: list[tuple[int, ...] | None] = []

    def has_changed(self) -> bool:
        """Return whether a file has come, gone, or been written or replaced since the last call; ``True`` the first time."""
        stamps = [_stamp(path) for path in self._paths]
        before, self._stamps = self._stamps, stamps
        return stamps != before

    def forget(self) -> None:
        """Let all count as changed at the next call."""
        self._stamps = []


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns  # no tool can set the last back
