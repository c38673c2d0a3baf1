"""Changes an artifact behind its reader's back, with right digests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from models.artifact.tensor_file import map_tensors, save_tensors
from models.artifact.verified_file import describe_file


def sign(directory: Path, *names: str, **changes: Any) -> None:
    """Put the digests of changed files, and other changes, into the manifest, as an attacker would."""
    manifest = json.loads((directory / "manifest.json").read_text())
    manifest["files"] |= {name: describe_file(directory / name).model_dump() for name in names}
    (directory / "manifest.json").write_text(json.dumps({**manifest, **changes}))


def edit_json(directory: Path, name: str, edit: Callable[[Any], None]) -> None:
    document = json.loads((directory / name).read_text())
    edit(document)
    (directory / name).write_text(json.dumps(document))
    sign(directory, name)


def edit_tensor(directory: Path, name: str, key: str, edit: Callable[[np.ndarray], np.ndarray]) -> None:
    tensors = map_tensors(name, (directory / name).read_bytes())
    tensors[key] = edit(tensors[key].copy())
    save_tensors(directory / name, tensors)
    sign(directory, name)
