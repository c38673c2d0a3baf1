"""The catalog on disk, candidates known in advance by id: one JSON file that ``PUT /catalog`` replaces and every worker follows."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import stat
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from app.problems import Problem

log = logging.getLogger("ctrserve.catalog")


@dataclass(frozen=True, eq=False)
class Catalog:
    """The bytes of a catalog file. Each reading is an object of its own, compared by identity."""

    body: bytes


class CatalogFile:
    """The catalog on disk.

    Args:
        path: of the file, which need not exist yet; ``None`` is no catalog ever.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._stamp: tuple[int, ...] | None = None
        self.current: Catalog | None = None

    async def follow(self) -> None:
        """Read the file, in a thread, if it has changed; an absent file changes nothing.

        Raises:
            OSError: the file cannot be read, or is not a plain file; the last catalog stays.
        """
        if self._path is None:
            return
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return
        if _stamp(found) != self._stamp:
            await asyncio.to_thread(self.refresh)

    def refresh(self) -> None:
        """Read the file if it is another one than last time.

        Raises:
            OSError: as `follow`.
        """
        if self._path is None:
            return
        with open(self._path, "rb", opener=_open_without_waiting) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.EINVAL, "is not a plain file", self._path.name)
            if _stamp(found) != self._stamp:
                self.current = Catalog(file.read())
                self._stamp = _stamp(found)

    def replace(self, body: bytes) -> Catalog:
        """Replace the file and return the catalog. Readers see the old file or the new one, never half of one.

        Raises:
            Problem: ``no_catalog`` without a path; ``catalog_not_kept`` when the file cannot be written.
        """
        if self._path is None:
            raise Problem("no_catalog", "set CTR_CATALOG to the file that keeps it")
        temporary = self._path.with_name(f".{self._path.name}-{uuid.uuid4().hex}")
        try:
            with temporary.open("wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(self._path)
        except OSError as error:
            with suppress(OSError):  # half a file must not take the room that others need
                temporary.unlink(missing_ok=True)
            log.error("the catalog cannot be written: %s", error.strerror)
            raise Problem("catalog_not_kept") from error
        self.refresh()
        assert self.current is not None  # it has just been read
        return self.current


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # else a pipe would be waited for


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns
