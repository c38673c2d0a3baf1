"""Candidates known in advance, by id: one JSON file that ``PUT /catalog`` replaces and every worker follows.

The candidates' side activations are computed once per catalog and model version, so that ranking adds, not multiplies.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import stat
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.problems import Problem
from app.wire.rank_request import RankWire
from models.artifact.artifact import Artifact
from models.network.head import SideActivations
from models.network.side_activations import SideScorer

log = logging.getLogger("ctrserve.catalog")

CHUNK = 256
"""Candidates whose activations are computed at once, a fraction of a millisecond: meanwhile no other thread runs."""


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

    def replace(self, body: bytes) -> None:
        """Put another catalog in the file's place; readers see the old one or the new one, never half of one.

        Raises:
            Problem: ``no_catalog`` without a path, ``catalog_not_kept`` when there is no room for it, or no right to write it.
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
            with suppress(OSError):  # a half must not take the room that others have
                temporary.unlink(missing_ok=True)
            log.error("the catalog cannot be written: %s", error.strerror)
            raise Problem("catalog_not_kept") from error
        self.refresh()


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # else a pipe would be waited for


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns


class CatalogActivations:
    """The candidates of a catalog, ready to be added to contexts of one model version.

    Args:
        items: fields of each candidate by id.
        artifact: the model version.
        wire: brings items into columns.
        scorer: of the candidate side.
    """

    def __init__(
        self, items: Mapping[str, Mapping[str, Any]], artifact: Artifact, wire: RankWire, scorer: SideScorer
    ) -> None:
        self._places = {name: place for place, name in enumerate(items)}
        rows, parts = list(items.values()), []
        for start in range(0, len(rows), CHUNK):
            batch = scorer.encoder.encode(wire.candidate_columns(rows[start : start + CHUNK]))
            parts.append(scorer.activations(batch, artifact.table.take(batch.ids, axis=0)))
        self.activations = SideActivations(
            np.concatenate([part.product for part in parts]) if parts else np.empty((0, 0), np.float32),
            np.concatenate([part.squares for part in parts]) if parts else np.empty(0, np.float32),
        )

    def __len__(self) -> int:
        """Return the number of candidates."""
        return len(self._places)

    def find(self, ids: list[str]) -> NDArray[np.int64]:
        """Return the candidates' places among `activations`, int64 [n]; -1 for those that are not there."""
        return np.fromiter(map(self._places.get, ids, repeat(-1)), np.int64, len(ids))
