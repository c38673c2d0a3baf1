"""What must hold of the contents of an artifact before it is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from models.artifact.golden import Golden, columns_of
from models.artifact.tensor_file import Tensors
from models.errors import ArtifactError
from models.features.encoder import FeatureEncoder
from models.features.vocabulary import Vocabulary
from models.network.predictor import Predictor
from models.schema.feature_schema import FittedSchema

CHECKED_ROWS = 1 << 12
"""Rows of the table looked at between two calls of ``yield_cpu``."""
GOLDEN_TOLERANCE = 1e-5
"""Largest |Δlogit| between the trainer's machine and this one."""
VOCABULARY_PARTS = {"hashes": "uint64", "positions": "int64", "text": "uint8", "ends": "int64"}

Shape = Sequence[int] | None


def check_tensors(name: str, tensors: Tensors, expected: Mapping[str, tuple[str, Shape]]) -> None:
    """Compare the tensors of a file with the expected dtype and shape of each; a shape of ``None`` is any vector's.

    Raises:
        ArtifactError: ``shape``.
    """
    if set(tensors) != set(expected):
        raise ArtifactError("shape", f"{name}: expected the tensors {sorted(expected)}")
    for key, (dtype, shape) in expected.items():
        found = tensors[key]
        if str(found.dtype) != dtype or (found.ndim != 1 if shape is None else found.shape != tuple(shape)):
            wanted = f"{dtype} {'[any]' if shape is None else list(shape)}"
            raise ArtifactError("shape", f"{name}: {key} is {found.dtype} {list(found.shape)}, expected {wanted}")


def largest_in(table: NDArray[np.float32], yield_cpu: Callable[[], None]) -> float:
    """Return the largest absolute value in a table float32 [R, D].

    Raises:
        ArtifactError: ``finite``.
    """
    largest = 0.0
    for start in range(0, len(table), CHECKED_ROWS):
        yield_cpu()
        largest = max(largest, _largest("embeddings.safetensors", "rows", table[start : start + CHECKED_ROWS]))
    return largest


def check_finite(name: str, tensors: Tensors) -> None:
    """Refuse NaN and infinity.

    Raises:
        ArtifactError: ``finite``.
    """
    for key, array in tensors.items():
        _largest(name, key, array)


def _largest(name: str, key: str, array: NDArray[np.generic]) -> float:
    largest = float(np.abs(array).max(initial=0))  # NaN propagates
    if not np.isfinite(largest):
        raise ArtifactError("finite", f"{name}: {key} holds a number that is not finite")
    return largest


def read_vocabularies(schema: FittedSchema, tensors: Tensors, yield_cpu: Callable[[], None]) -> dict[str, Vocabulary]:
    """Return the checked vocabularies by the field that owns each.

    Raises:
        ArtifactError: ``shape``.
    """
    owners = [f for f in schema.features.fields if f.block == f.name and f.kind != "numeric" and f.buckets is None]
    expected = {f"{f.name}.{part}": (dtype, None) for f in owners for part, dtype in VOCABULARY_PARTS.items()}
    check_tensors("vocabularies.safetensors", tensors, expected)
    vocabularies = {
        f.name: Vocabulary({part: tensors[f"{f.name}.{part}"] for part in VOCABULARY_PARTS}) for f in owners
    }
    for name, vocabulary in vocabularies.items():
        yield_cpu()
        vocabulary.check(name, schema.num_tokens[name])
    return vocabularies


def check_golden(
    golden: Golden,
    encoder: FeatureEncoder,
    predictor: Predictor,
    table: NDArray[np.float32],
    yield_cpu: Callable[[], None],
) -> None:
    """Score the golden rows and compare the answers with the trainer's.

    Raises:
        ArtifactError: ``golden``.
    """
    logits = np.empty(len(golden.rows), np.float32)
    for i, row in enumerate(golden.rows):
        yield_cpu()  # one row takes a tenth of a millisecond or two, with tokens that are new to the encoder
        batch = encoder.encode(columns_of(encoder.schema, [row]))
        yield_cpu()
        logits[i] = predictor.score_table(batch, table)[0]
    probabilities = predictor.probabilities(logits)
    if len(logits) == 0 or not (len(golden.logits) == len(golden.probabilities) == len(logits)):
        raise ArtifactError("golden", "golden.json: needs rows, and a logit and a probability for each")
    worst = max(float(np.abs(logits - golden.logits).max()), float(np.abs(probabilities - golden.probabilities).max()))
    if not worst <= GOLDEN_TOLERANCE:
        raise ArtifactError(
            "golden", f"golden.json: answers differ from the trainer's by {worst:.2g}, allowed {GOLDEN_TOLERANCE:g}"
        )
