"""Writes a DeepFM of any size, trained on a random log: as an artifact for ctrserve, and as plain arrays for the peers."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from benchmarks.conditions import SEED
from benchmarks.trained_weights import train
from models.artifact.current import set_current
from models.artifact.golden import Golden, columns_of
from models.artifact.manifest import FORMAT_VERSION, DataFacts, Manifest
from models.artifact.tensor_file import Tensors
from models.artifact.writing import model_files, write_artifact
from models.features.encoder import FeatureEncoder
from models.features.field_encoder import Value
from models.features.vocabulary import NUM_SPECIAL, OOV, Vocabulary
from models.network.calibration import Calibration
from models.network.deepfm import DeepFMHead
from models.network.head import DeepFMConfig
from models.network.predictor import Predictor
from models.schema.feature_schema import FeatureSchema, FieldSpec, FittedField, FittedSchema

ZIPF = 1.1
"""Exponent of the token frequencies, in the traffic and in the artifact's counts."""
BOUNDARIES = tuple(float(x) for x in range(1, 20))
MAX_NUMBER = 20
UNSEEN_SHARE = 0.01
VERSION = "benchmark"


@dataclass(frozen=True)
class Shape:
    """Sizes of a model."""

    num_categorical: int = 26
    num_numeric: int = 13
    tokens_per_field: int = 38_460
    embedding_dim: int = 16
    hidden: tuple[int, ...] = (400, 400, 400)
    trained_rows: int = 200_000
    """Impressions that the model is trained on; 0 keeps random weights."""

    @property
    def num_ids(self) -> int:
        """Number of ids that have an embedding."""
        per_number = len(BOUNDARIES) + 1 + NUM_SPECIAL
        return self.num_categorical * (self.tokens_per_field + NUM_SPECIAL) + self.num_numeric * per_number

    def describe(self) -> dict[str, Any]:
        """Return the sizes for a result file."""
        return {**asdict(self), "num_ids": self.num_ids, "zipf_exponent": ZIPF}


def token(position: int) -> str:
    """Return the token at a position of a vocabulary, ordered by frequency: eight hexadecimal digits.

    >>> token(0), token(1)
    ('00000000', '9e3779b1')
    """
    return f"{position * 2654435761 % 2**32:08x}"


def make_fields(shape: Shape) -> tuple[FieldSpec, ...]:
    """Return the fields; every other one is a candidate field."""
    names = [(f"C{i}", "categorical") for i in range(shape.num_categorical)]
    names += [(f"I{i}", "numeric") for i in range(shape.num_numeric)]
    return tuple(
        FieldSpec.model_validate({"name": name, "kind": kind, "side": "candidate" if i % 2 else "context"})
        for i, (name, kind) in enumerate(names)
    )


def make_encoder(shape: Shape) -> FeatureEncoder:
    """Return the encoder; all categorical fields have the same tokens."""
    fields = make_fields(shape)
    vocabulary = Vocabulary.from_tokens([token(i) for i in range(shape.tokens_per_field)])
    fitted = [FittedField(dtype="string", example=token(0))] * shape.num_categorical
    fitted += [FittedField(dtype=None, boundaries=BOUNDARIES, example=1.0)] * shape.num_numeric
    sizes = {f.name: shape.tokens_per_field if f.kind == "categorical" else len(BOUNDARIES) + 1 for f in fields}
    schema = FittedSchema(features=FeatureSchema(label="click", fields=fields), fitted=tuple(fitted), num_tokens=sizes)
    return FeatureEncoder(schema, {f.name: vocabulary for f in fields if f.kind == "categorical"})


def draw_positions(shape: Shape, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw positions of tokens in their vocabularies, int64 [n, categorical fields]; -1 is an unseen token."""
    weights = np.arange(1, shape.tokens_per_field + 1, dtype=np.float64) ** -ZIPF
    size = (n, shape.num_categorical)
    at = np.searchsorted(np.cumsum(weights) / weights.sum(), rng.random(size)).clip(max=shape.tokens_per_field - 1)
    return np.where(rng.random(size) < UNSEEN_SHARE, -1, at)


def draw_numbers(shape: Shape, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw values of the numeric fields, float64 [n, numeric fields]."""
    return np.round(rng.random((n, shape.num_numeric)) * MAX_NUMBER, 2)


def draw_ids(shape: Shape, encoder: FeatureEncoder, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw the table rows of n impressions, int64 [n, fields]."""
    positions = draw_positions(shape, n, rng)
    bins = np.searchsorted(BOUNDARIES, draw_numbers(shape, n, rng), side="right")
    rows = np.concatenate((np.where(positions < 0, OOV, positions + NUM_SPECIAL), bins + NUM_SPECIAL), axis=1)
    return rows + [field.start for field in encoder.fields]


def make_counts(shape: Shape, encoder: FeatureEncoder) -> NDArray[np.int64]:
    """Return counts for the table rows, int64 [R]: Zipf-distributed within each categorical field."""
    frequencies = (np.arange(1, shape.tokens_per_field + 1, dtype=np.float64) ** -ZIPF * 1e8).astype(np.int64) + 1
    counts = np.full(encoder.num_rows, frequencies.sum() // (len(BOUNDARIES) + 1), np.int64)
    for field in encoder.fields[: shape.num_categorical]:
        first = field.start + NUM_SPECIAL
        counts[first : first + shape.tokens_per_field] = frequencies
    return counts


def write_model(root: Path, rows: list[dict[str, Value]], shape: Shape, *, for_peers: bool = False) -> Path:
    """Write ``root/artifacts``; return it.

    Args:
        root: directory, created if necessary; an artifact in it is replaced.
        rows: the golden rows.
        shape: sizes.
        for_peers: write ``root/model.safetensors`` and ``root/vocabulary.json`` as well.
    """
    root.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(root / "artifacts", ignore_errors=True)
    encoder = make_encoder(shape)
    config = DeepFMConfig(embedding_dim=shape.embedding_dim, hidden=shape.hidden)
    rng = np.random.default_rng(SEED)
    if shape.trained_rows:
        table, module = train(config, encoder, draw_ids(shape, encoder, shape.trained_rows, rng), SEED)
    else:
        table = rng.standard_normal((encoder.num_rows, shape.embedding_dim + 1), dtype=np.float32) * np.float32(0.1)
        torch.manual_seed(SEED)
        module = DeepFMHead(config, len(encoder.fields))
    module.requires_grad_(requires_grad=False)
    predictor = Predictor(module.frozen(), Calibration())
    logits = predictor.score_table(encoder.encode(columns_of(encoder.schema, rows)), table)
    probabilities = predictor.probabilities(logits)
    golden = Golden(rows=tuple(rows), logits=tuple(logits.tolist()), probabilities=tuple(probabilities.tolist()))
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        model_version=VERSION,
        created="2026-01-01T00:00:00+00:00",
        model=config,
        table_rows=encoder.num_rows,
        training={"seed": SEED},
        data=DataFacts(files=(), rows={}, window={}, digest="0" * 64),
        metrics={},
        environment={},
        files={},
    )
    head = {key: np.asarray(value.numpy(), order="C") for key, value in module.state_dict().items()}
    embeddings: Tensors = {"rows": table, "counts": make_counts(shape, encoder)}
    texts, tensors = model_files(encoder, predictor.calibration, golden, embeddings, head)
    texts |= {"report.html": "", "model_card.md": ""}
    write_artifact(root / "artifacts", manifest, texts, tensors)
    set_current(root / "artifacts", VERSION)
    if for_peers:
        starts = {field.spec.name: field.start for field in encoder.fields}
        tokens = [token(i) for i in range(shape.tokens_per_field)]
        described = {"tokens": tokens, "starts": starts, "boundaries": BOUNDARIES}
        (root / "vocabulary.json").write_text(json.dumps(described))
        save_file({"table": table, **head}, root / "model.safetensors")
    return root / "artifacts"
