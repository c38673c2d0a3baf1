"""Writes an artifact: beside its final place, synced, then renamed, so that no reader sees half of one."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

from models.artifact.current import sync
from models.artifact.golden import Golden
from models.artifact.manifest import FILES, MANIFEST, OPTIONAL_FILES, Manifest
from models.artifact.tensor_file import Tensors, save_tensors
from models.artifact.verified_file import describe_file
from models.features.encoder import FeatureEncoder
from models.network.calibration import Calibration


def model_files(
    encoder: FeatureEncoder, calibration: Calibration, golden: Golden, embeddings: Tensors, head: Tensors
) -> tuple[dict[str, str], dict[str, Tensors]]:
    """Return the text files of a model, without the report and the model card, and its safetensors files, by name.

    Args:
        encoder: with its schema and vocabularies.
        calibration: of the probabilities.
        golden: rows with the model's answers.
        embeddings: ``rows`` float32 [R, E+1] and ``counts`` int64 [R].
        head: the head's tensors by name.
    """
    texts = {
        "schema.json": encoder.schema.model_dump_json(),
        "calibration.json": calibration.model_dump_json(),
        "golden.json": golden.model_dump_json(),
    }
    vocabularies = encoder.vocabularies.items()
    tensors: dict[str, Tensors] = {
        "vocabularies.safetensors": {f"{n}.{part}": array for n, v in vocabularies for part, array in v.arrays.items()},
        "embeddings.safetensors": embeddings,
        "head.safetensors": head,
    }
    return texts, tensors


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
        names = [*FILES, *(name for name in OPTIONAL_FILES if name in tensors)]
        complete = manifest.model_copy(update={"files": {name: describe_file(temporary / name) for name in names}})
        (temporary / MANIFEST).write_text(complete.model_dump_json(indent=2) + "\n", encoding="utf-8")
        for name in (*names, MANIFEST):
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
