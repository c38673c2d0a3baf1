"""What an administrator wants beyond ``artifacts/current``: told to one worker, followed by all."""

from __future__ import annotations

import uuid
from pathlib import Path

from pydantic import BaseModel

DIRECTORY = "CTRSERVE_SHARED_DIR"
"""Environment variable by which the workers of one service know the directory that they share."""


class Order(BaseModel, frozen=True):
    """Look again at what was refused; and while ``current`` names ``skip``, serve ``serve`` instead."""

    number: str = ""
    skip: str | None = None
    serve: str | None = None


class OrderFile:
    """The last order, in a file that the workers of one service share.

    Args:
        directory: where; without one the order is this process's alone.
    """

    def __init__(self, directory: Path | None) -> None:
        self.path = None if directory is None else directory / "order.json"
        self._order = Order()

    def read(self) -> Order:
        """Return the last order."""
        if self.path is not None and self.path.exists():
            self._order = Order.model_validate_json(self.path.read_bytes())
        return self._order

    def give(self, skip: str | None = None, serve: str | None = None) -> None:
        """Put another order in the last one's place."""
        self._order = Order(number=uuid.uuid4().hex, skip=skip, serve=serve)
        if self.path is not None:
            temporary = self.path.with_name(f".{self._order.number}")
            temporary.write_text(self._order.model_dump_json(), encoding="utf-8")
            temporary.rename(self.path)
