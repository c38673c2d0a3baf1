"""The unfinished result of scoring a log: a folder of parts, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from models.artifact.current import sync
from models.data.log_files import UNREADABLE, first_line
from models.errors import LogError

DONE = "done.jsonl"


class Entry(NamedTuple):
    """One part: ``rows`` rows of file number ``file``; of each field its values, those MISSING and those OOV."""

    file: int
    rows: int
    values: list[int]
    missing: list[int]
    unseen: list[int]


class PartFolder:
    """Parts beside the file that they will be, with a line for each that is complete.

    Args:
        path: of the folder. What another job left there is removed.
        job: digest of what is scored, and with what.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, path: Path, job: str) -> None:
        self.path = path
        lines = _lines(path / DONE)
        if lines[:1] != [{"job": job}]:
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir()
            self._append({"job": job})
            sync(path)
        self.entries = [Entry(**line) for line in lines[1:]] if lines[:1] == [{"job": job}] else []

    def rows_of(self, file: int) -> int:
        """Return how many rows of a file are in complete parts."""
        return sum(entry.rows for entry in self.entries if entry.file == file)

    def paths(self) -> list[Path]:
        """Return the complete parts, in the order of the log."""
        return [self._path(number) for number in range(len(self.entries))]

    def add(self, frame: pl.DataFrame, entry: Entry) -> None:
        """Write a part; it is complete when the line about it is written.

        Raises:
            LogError: it cannot be written.
        """
        path = self._path(len(self.entries))
        try:
            frame.write_parquet(path, compression="lz4", statistics=False)
        except UNREADABLE as error:
            raise LogError(f"{path}: cannot be written: {first_line(error)}") from error
        sync(path)
        self._append(entry._asdict())
        self.entries.append(entry)

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _path(self, number: int) -> Path:
        return self.path / f"{number:06}.parquet"

    def _append(self, line: object) -> None:
        with (self.path / DONE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _lines(path: Path) -> list[Any]:
    # Complete lines only: a run that was killed may have left half of one.
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
