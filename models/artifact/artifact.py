"""Artifacts: written once, verified at every load, swapped by one small file. No pickle anywhere.

``<root>/<model_version>/`` is immutable; ``<root>/current`` is one line that names the version to serve.
"""

from __future__ import annotations

import mmap
import os
import re
import shutil
import stat
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from models.artifact.manifest import (
    FILES,
    MANIFEST,
    MAX_JSON_BYTES,
    VERSION_PATTERN,
    Manifest,
    describe_file,
    go_on,
    open_verified,
    read_manifest,
)
from models.artifact.tensor_file import Tensors, map_tensors, save_tensors
from models.errors import ArtifactError
from models.features.encoder import FeatureEncoder
from models.features.field_encoder import Value
from models.features.vocabulary import Vocabulary
from models.network.calibration import Calibration
from models.network.compiled_head import known_fields
from models.network.head import DeepFMConfig, Head, head_tensors
from models.network.predictor import Predictor
from models.schema.feature_schema import FittedSchema, Strict, describe_validation_error

T = TypeVar("T", bound=Strict)

CURRENT = "current"
CHECKED_ROWS = 1 << 12
GOLDEN_TOLERANCE = 1e-5
"""Largest |Δlogit| between the trainer's machine and this one."""


class Golden(Strict):
    """Raw impressions with the trainer's own answers, re-scored at each load."""

    rows: tuple[Mapping[str, int | float | str | tuple[int | str, ...] | None], ...]
    logits: tuple[float, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class Artifact:
    """A verified model in memory; the table stays a memory map.

    Args:
        table: float32 [R, E+1], read-only.
        counts: int64 [R], how often training saw each row.
        head: the head's tensors, for a training that goes on from here.
    """

    manifest: Manifest
    schema: FittedSchema
    encoder: FeatureEncoder
    predictor: Predictor
    table: NDArray[np.float32]
    counts: NDArray[np.int64]
    head: Tensors
    golden: Golden

    @property
    def model_version(self) -> str:
        """The name of the artifact's directory."""
        return self.manifest.model_version


def columns_of(schema: FittedSchema, rows: Sequence[Mapping[str, Value]]) -> list[list[Value]]:
    """Turn rows into one list of values per field; an absent field is ``None``."""
    return [[row.get(field.name) for row in rows] for field in schema.features.fields]


def load_artifact(directory: Path, num_threads: int = 1, pause: Callable[[], None] = go_on) -> Artifact:
    """Read, verify and re-score an artifact.

    Args:
        directory: the artifact's.
        num_threads: to read with; the two large files side by side where nobody else needs the processors.
        pause: called after every fraction of a millisecond of work, by the threads that do it, to let others go first.

    Raises:
        ArtifactError: with the ``reason`` of the first thing found wrong; nothing of it is then in use.
    """
    try:
        directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise ArtifactError("missing", f"{directory.name}: no such artifact") from error
    except OSError as error:
        raise ArtifactError("path", f"{directory.name}: is not a directory that can be read") from error
    try:
        manifest = read_manifest(directory_fd)
        if manifest.model_version != directory.name:
            raise ArtifactError("manifest", f"{MANIFEST}: model_version is not the directory's name")
        # Digests take most of the time, and leave the interpreter to others meanwhile. The largest come first.
        by_size = sorted(FILES, key=lambda name: -manifest.files[name].size_bytes)
        with ThreadPoolExecutor(num_threads) as pool:
            opened = {name: pool.submit(_open, directory_fd, manifest, name, pause) for name in by_size}
        buffers = {name: opened[name].result() for name in FILES}
    finally:
        os.close(directory_fd)
    pause()
    schema = _parse(FittedSchema, "schema.json", buffers)
    pause()
    tensors = map_tensors("vocabularies.safetensors", buffers["vocabularies.safetensors"])
    encoder = FeatureEncoder(schema, _read_vocabularies(schema, tensors, pause))
    tensors = map_tensors("embeddings.safetensors", buffers["embeddings.safetensors"])
    width = manifest.model.embedding_dim + 1
    rows = manifest.table_rows
    _check_tensors(
        "embeddings.safetensors", tensors, {"rows": ("float32", (rows, width)), "counts": ("int64", (rows,))}
    )
    if encoder.num_rows != manifest.table_rows:
        raise ArtifactError(
            "shape", f"schema.json describes {encoder.num_rows} table rows, the manifest {manifest.table_rows}"
        )
    table, counts = (
        tensors["rows"].view(np.float32),
        tensors["counts"].view(np.int64),
    )  # as checked: types for the reader
    head = map_tensors("head.safetensors", buffers["head.safetensors"])
    _check_head(manifest.model, len(schema.features.fields), head)
    for i in range(0, rows, CHECKED_ROWS):
        pause()
        if not np.isfinite(table[i : i + CHECKED_ROWS]).all():
            raise ArtifactError("finite", "embeddings.safetensors: holds a number that is not finite")
    pause()
    single = known_fields(encoder.single_fields(), table)
    head_of_fields = Head(manifest.model, len(schema.features.fields), head, single)
    predictor = Predictor(head_of_fields, _parse(Calibration, "calibration.json", buffers))
    pause()
    golden = _parse(Golden, "golden.json", buffers)
    artifact = Artifact(manifest, schema, encoder, predictor, table, counts, head, golden)
    _replay_golden(artifact, pause)
    return artifact


def _open(directory_fd: int, manifest: Manifest, name: str, pause: Callable[[], None]) -> mmap.mmap | bytes:
    max_bytes = MAX_JSON_BYTES if name.endswith(".json") else None
    return open_verified(directory_fd, name, manifest.files[name], max_bytes, pause)


def write_artifact(root: Path, manifest: Manifest, texts: Mapping[str, str], tensors: Mapping[str, Tensors]) -> Path:
    """Write an artifact beside its final place, fsync, rename; return its directory. ``manifest.files`` is filled in here.

    Args:
        root: directory of artifacts, made when absent.
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
            _sync(temporary / name)
        _sync(temporary)
        target = root / manifest.model_version
        temporary.rename(target)
    except BaseException:  # an interrupt too must not leave half an artifact
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync(root)
    return target


def set_current(root: Path, model_version: str) -> None:
    """Make ``model_version`` the one to serve; readers see the old name or the new one, never half of one."""
    temporary = root / f".tmp-{uuid.uuid4().hex}"
    temporary.write_text(model_version + "\n", encoding="ascii")
    _sync(temporary)
    temporary.rename(root / CURRENT)
    _sync(root)


def read_current(root: Path) -> str:
    """Return the version named by ``<root>/current``, which must be a plain file: a pipe would be waited for without end.

    Raises:
        ArtifactError: ``missing`` when there is none yet, ``path`` when it does not hold a version's name.
    """
    try:
        fd = os.open(root / CURRENT, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            is_plain, name = stat.S_ISREG(os.fstat(fd).st_mode), ""
            if is_plain:
                name = os.read(fd, 128).decode("ascii", "replace").strip()
        finally:
            os.close(fd)
    except FileNotFoundError as error:
        raise ArtifactError("missing", f"no artifact yet: {root.name}/{CURRENT} does not exist") from error
    except OSError as error:
        raise ArtifactError("path", f"{CURRENT}: is not a plain file that can be read") from error
    if not is_plain:
        raise ArtifactError("path", f"{CURRENT}: is not a plain file")
    if not re.fullmatch(VERSION_PATTERN, name):
        raise ArtifactError("path", f"{CURRENT}: does not hold the name of a version")
    return name


def _parse(model: type[T], name: str, buffers: Mapping[str, mmap.mmap | bytes]) -> T:
    try:
        return model.model_validate_json(bytes(buffers[name]))
    except ValidationError as error:
        raise ArtifactError("manifest", f"{name}: {describe_validation_error(error)}") from error


def _check_tensors(
    name: str, tensors: Tensors, expected: Mapping[str, tuple[str, tuple[int, ...]]] | Mapping[str, tuple[str, None]]
) -> None:
    if set(tensors) != set(expected):
        raise ArtifactError("shape", f"{name}: expected the tensors {sorted(expected)}")
    for key, (dtype, shape) in expected.items():
        found = tensors[key]
        if str(found.dtype) != dtype or (found.shape != shape if shape is not None else found.ndim != 1):
            raise ArtifactError(
                "shape",
                f"{name}: {key} is {found.dtype} {list(found.shape)}, expected {dtype} {list(shape or ['any'])}",
            )


def _read_vocabularies(schema: FittedSchema, tensors: Tensors, pause: Callable[[], None]) -> dict[str, Vocabulary]:
    owners = [f for f in schema.features.fields if f.block == f.name and f.kind != "numeric" and f.buckets is None]
    parts = {"hashes": "uint64", "positions": "int64", "text": "uint8", "ends": "int64"}
    expected = {f"{owner.name}.{part}": (dtype, None) for owner in owners for part, dtype in parts.items()}
    _check_tensors("vocabularies.safetensors", tensors, expected)
    vocabularies = {f.name: Vocabulary({part: tensors[f"{f.name}.{part}"] for part in parts}) for f in owners}
    for name, vocabulary in vocabularies.items():
        pause()
        vocabulary.check(name, schema.num_tokens[name])
    return vocabularies


def _check_head(config: DeepFMConfig, num_fields: int, tensors: Tensors) -> None:
    _check_tensors("head.safetensors", tensors, head_tensors(config, num_fields))
    for key, array in tensors.items():
        if not np.isfinite(array).all():
            raise ArtifactError("finite", f"head.safetensors: {key} holds a number that is not finite")


def _replay_golden(artifact: Artifact, pause: Callable[[], None]) -> None:
    golden = artifact.golden
    logits = np.empty(len(golden.rows), np.float32)
    for i, row in enumerate(golden.rows):
        pause()  # one takes a tenth of a millisecond or two, with tokens that are new to the encoder
        batch = artifact.encoder.encode(columns_of(artifact.schema, [row]))
        pause()
        logits[i] = artifact.predictor.score_table(batch, artifact.table)[0]
    probabilities = artifact.predictor.probabilities(logits)
    if len(logits) == 0 or not (len(golden.logits) == len(golden.probabilities) == len(logits)):
        raise ArtifactError("golden", "golden.json: needs rows, and a logit and a probability for each")
    worst = max(float(np.abs(logits - golden.logits).max()), float(np.abs(probabilities - golden.probabilities).max()))
    if not worst <= GOLDEN_TOLERANCE:
        raise ArtifactError(
            "golden", f"golden.json: answers differ from the trainer's by {worst:.2g}, allowed {GOLDEN_TOLERANCE:g}"
        )


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
