"""A verified model in memory, and how it is read: nothing of an artifact is used before all of it was checked."""

from __future__ import annotations

import hashlib
import mmap
import os
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from models.artifact.checks import check_finite, check_golden, check_tensors, largest_in, read_vocabularies
from models.artifact.golden import Golden
from models.artifact.manifest import MANIFEST, MAX_JSON_BYTES, MAX_MANIFEST_BYTES, Manifest, parse_manifest
from models.artifact.tensor_file import Tensors, map_tensors
from models.artifact.verified_file import check_digest, map_plain, open_plain, read_plain
from models.errors import ArtifactError
from models.features.encoder import FeatureEncoder
from models.features.request_reader import keep_cpu
from models.network.calibration import Calibration
from models.network.head import head_tensors, make_head
from models.network.predictor import Predictor
from models.schema.feature_schema import FittedSchema, Strict
from models.schema.validation_errors import describe_validation_error

T = TypeVar("T", bound=Strict)
EVIDENCE = "evidence.safetensors"


@dataclass(frozen=True)
class Artifact:
    """A verified model in memory; the table stays a memory map, open for as long as an array views it.

    Args:
        manifest_sha256: of the bytes of ``manifest.json``.
        table: float32 [R, E+1], read-only.
        largest: the largest absolute value in the table.
        counts: int64 [R], how often training saw each row.
        head: the head's tensors, for a training that starts from them.
        evidence: what `models.explanation.uncertainty.Uncertainty` takes; ``None`` in artifacts of earlier versions.
    """

    manifest: Manifest
    manifest_sha256: str
    schema: FittedSchema
    encoder: FeatureEncoder
    predictor: Predictor
    table: NDArray[np.float32]
    largest: float
    counts: NDArray[np.int64]
    head: Tensors
    evidence: Tensors | None
    golden: Golden

    @property
    def model_version(self) -> str:
        """The name of the artifact's directory."""
        return self.manifest.model_version


def load_artifact(
    directory: Path,
    manifest_sha256: str | None = None,
    *,
    num_threads: int = 1,
    yield_cpu: Callable[[], None] = keep_cpu,
) -> Artifact:
    """Read, verify and re-score an artifact.

    Args:
        directory: of the artifact.
        manifest_sha256: the digest that ``current`` gives; ``None`` compares nothing.
        num_threads: threads that compute digests, the two large files side by side where no request needs the processors.
        yield_cpu: called after each fraction of a millisecond of work, by the thread that does it.

    Raises:
        ArtifactError: with the ``reason`` of the first thing found wrong.
        OSError, MemoryError: the machine cannot read it now; the artifact may be right.
            After either, no descriptor and no map of the artifact is open.
    """
    with ExitStack() as stack:
        try:
            artifact = _load(stack, directory, manifest_sha256, num_threads, yield_cpu)
        except BaseException as error:
            release_frames(error)
            raise
        stack.pop_all()  # the artifact's arrays close their maps when they go
        return artifact


def release_frames(error: BaseException | None) -> None:
    """Clear the local variables of the frames that an error came through: they keep maps of the artifact open."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _load(
    stack: ExitStack, directory: Path, manifest_sha256: str | None, num_threads: int, yield_cpu: Callable[[], None]
) -> Artifact:
    directory_fd = open_plain(directory, is_directory=True)
    try:
        raw = read_plain(MANIFEST, MAX_MANIFEST_BYTES, directory_fd)
        found_sha256 = hashlib.sha256(raw).hexdigest()
        if manifest_sha256 not in (None, found_sha256):
            raise ArtifactError("sha256", f"{MANIFEST}: is not the one that `current` was set to")
        manifest = parse_manifest(raw)
        if manifest.model_version != directory.name:
            raise ArtifactError("manifest", f"{MANIFEST}: model_version is not the directory's name")
        # All are opened before the first digest, which takes most of the time.
        files = {name: map_plain(stack, name, directory_fd, entry) for name, entry in manifest.files.items()}
    finally:
        os.close(directory_fd)
    with ThreadPoolExecutor(num_threads) as pool:
        by_size = sorted(files, key=lambda name: -manifest.files[name].size_bytes)
        list(pool.map(lambda name: check_digest(name, files[name], manifest.files[name], yield_cpu), by_size))
    schema = _parse(FittedSchema, "schema.json", files)
    yield_cpu()
    tensors = map_tensors("vocabularies.safetensors", files["vocabularies.safetensors"])
    encoder = FeatureEncoder(schema, read_vocabularies(schema, tensors, yield_cpu))
    rows, dim = manifest.table_rows, manifest.model.embedding_dim + 1
    if encoder.num_rows != rows:
        raise ArtifactError("shape", f"schema.json describes {encoder.num_rows} table rows, the manifest {rows}")
    tensors = map_tensors("embeddings.safetensors", files["embeddings.safetensors"])
    check_tensors("embeddings.safetensors", tensors, {"rows": ("float32", (rows, dim)), "counts": ("int64", (rows,))})
    table, counts = tensors["rows"].view(np.float32), tensors["counts"].view(np.int64)  # views for the type checker
    largest = largest_in(table, yield_cpu)
    weights = map_tensors("head.safetensors", files["head.safetensors"])
    check_tensors("head.safetensors", weights, head_tensors(manifest.model, len(schema.features.fields)))
    check_finite("head.safetensors", weights)
    evidence = None
    if EVIDENCE in files:
        evidence = map_tensors(EVIDENCE, files[EVIDENCE])
        blocks = len(encoder.block_starts)
        shapes = {"basis": ("float32", (blocks, dim, dim)), "information": ("float32", (blocks, dim))}
        check_tensors(EVIDENCE, evidence, shapes)
        check_finite(EVIDENCE, evidence)
    yield_cpu()
    head = make_head(manifest.model, len(schema.features.fields), weights, table, encoder.single_fields())
    predictor = Predictor(head, _parse(Calibration, "calibration.json", files))
    yield_cpu()
    golden = _parse(Golden, "golden.json", files)
    if manifest.format_version == 1:
        golden = golden.without_empty_texts()
    check_golden(golden, encoder, predictor, table, yield_cpu)
    return Artifact(
        manifest, found_sha256, schema, encoder, predictor, table, largest, counts, weights, evidence, golden
    )


def _parse(model: type[T], name: str, files: Mapping[str, mmap.mmap | bytes]) -> T:
    if len(files[name]) > MAX_JSON_BYTES:
        raise ArtifactError("size", f"{name}: is larger than {MAX_JSON_BYTES} bytes")
    try:
        return model.model_validate_json(bytes(files[name]))
    except ValidationError as error:
        raise ArtifactError("manifest", f"{name}: {describe_validation_error(error)}") from error
