"""The report of an artifact."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Self

from models.artifact.manifest import Manifest
from models.artifact.verified_file import check_digest, read_plain
from models.features.request_reader import keep_cpu

NAME = "report.html"
FIGURE = re.compile(r'<figure id="(\w+)">(.*?)</figure>', re.DOTALL)


@dataclass(frozen=True)
class Report:
    """What training wrote about a model.

    Args:
        path: of the page.
        html: the page, without scripts and without references to other files.
        metrics: of the held-out parts, by part.
    """

    path: Path
    html: str
    metrics: Mapping[str, Mapping[str, float | int | None]]

    @classmethod
    def of(cls, directory: Path, manifest: Manifest) -> Self:
        """Read the report of an artifact.

        Raises:
            ArtifactError: it is not the file that was written.
        """
        entry = manifest.files[NAME]
        content = read_plain(directory / NAME, max(entry.size_bytes, 1))
        check_digest(NAME, content, entry, keep_cpu)
        return cls(directory / NAME, content.decode(), manifest.metrics)

    def figure(self, name: str) -> str:
        """Return the HTML of a figure; nothing where the page has none of that name."""
        return next((content for found, content in FIGURE.findall(self.html) if found == name), "")

    def __repr__(self) -> str:
        return f"<ctrserve.Report {self.path}>"

    def _repr_html_(self) -> str:
        return framed(self.html, 900)


def framed(page: str, height_px: int) -> str:
    """Return a page in a frame of its own, so that a notebook's styles and the page's do not meet."""
    return f'<iframe srcdoc="{escape(page)}" sandbox style="width:100%;height:{height_px}px;border:0"></iframe>'
