"""Writes an artifact: beside its final place, synced, then renamed, so that no reader sees half of one."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

from models.artifact.current import sync
from models.artifact.manifest import FILES, MANIFEST, Manifest
from models.artifact.tensor_file import Tensors, save_tensors
from models.artifact.verified_file import describe_file


def write_artifact(root: Path, manifest: Manifest, texts: Mapping[str, str], tensors: Mapping[str, Tensors]) -> Path:
    """Write an artifact below ``root`` and return its directory.

    Args:
        root: directory of artifacts, made when absent.
        manifest: its ``files`` are filled in here.
        texts: contents of the text files by name.
        tensors: contents of the safetensors files by name.
    """
    root.mkdir(parents=True, exist_ok=True)
    temporary = root / f".tmp-{uuid.uuid4().hex}"
    temporary.mkdir(mode=0o755)
    try:
        for name, text in texts.items():
            (temporary / name).write_text(text, encoding="utf-8")
        for name, arrays in tensors.items():
            save_tensors(temporary / name, arrays)
        complete = manifest.model_copy(update={"files": {name: describe_file(temporary / name) for name in FILES}})
        (temporary / MANIFEST).write_text(complete.model_dump_json(indent=2) + "\n", encoding="utf-8")
        for name in (*FILES, MANIFEST):
            (temporary / name).chmod(0o644)  # a service runs as another user than training
            sync(temporary / name)
        sync(temporary)
        target = root / manifest.model_version
        temporary.rename(target)
    except BaseException:  # an interrupt too must not leave half an artifact
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync(root)
    return target
