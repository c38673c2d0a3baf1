"""What an administrator asked for beyond ``artifacts/current``: asked of one worker, followed by all."""

from __future__ import annotations

import uuid
from pathlib import Path

from pydantic import BaseModel

DIRECTORY = "CTRSERVE_SHARED_DIR"
"""Environment variable that names the directory shared by the workers of one service."""


class Rollback(BaseModel, frozen=True):
    """Serve ``serve`` while ``current`` names ``skip``. A new ``number`` also asks for another look at refused versions."""

    number: str = ""
    skip: str | None = None
    serve: str | None = None


class RollbackFile:
    """The last `Rollback`, in a file shared by the workers of one service.

    Args:
        directory: the directory of the file; ``None`` keeps the rollback in this process.
    """

    def __init__(self, directory: Path | None) -> None:
        self.path = None if directory is None else directory / "rollback.json"
        self._last = Rollback()

    def read(self) -> Rollback:
        """Return the last rollback."""
        if self.path is not None and self.path.exists():
            self._last = Rollback.model_validate_json(self.path.read_bytes())
        return self._last

    def write(self, skip: str | None = None, serve: str | None = None) -> None:
        """Replace the last rollback; without arguments, end it."""
        self._last = Rollback(number=uuid.uuid4().hex, skip=skip, serve=serve)
        if self.path is not None:
            temporary = self.path.with_name(f".{self._last.number}")
            temporary.write_text(self._last.model_dump_json(), encoding="utf-8")
            temporary.rename(self.path)
