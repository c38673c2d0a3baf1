"""A small log and an artifact with random weights for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from models.artifact.current import read_current, set_current
from models.artifact.golden_rows import make_golden
from models.artifact.manifest import FORMAT_VERSION, DataFacts, Manifest
from models.artifact.writing import model_files, write_artifact
from models.data import fitting
from models.data.chunk_encoder import encode_frame
from models.data.token_log import TokenLog
from models.explanation.uncertainty import Gradients, fit_uncertainty
from models.features.encoder import FeatureEncoder
from models.network.calibration import Calibration
from models.network.deepfm import DeepFMHead
from models.network.head import DeepFMConfig
from models.network.predictor import Predictor
from models.schema.feature_schema import FeatureSchema

SCHEMA = FeatureSchema.model_validate(
    {
        "label": "click",
        "group": "user_id",
        "field": [
            {"name": "user_id", "kind": "categorical"},
            {"name": "site", "kind": "categorical"},
            {"name": "clicked_ads", "kind": "sequence", "vocabulary": "ad_id", "max_length": 5},
            {"name": "ad_id", "kind": "categorical", "side": "candidate"},
            {"name": "price", "kind": "numeric", "side": "candidate"},
        ],
    }
)


def make_log(num_rows: int = 2_000, seed: int = 0) -> pl.DataFrame:
    """Return impressions of Zipf-distributed users and ads as a canonical frame."""
    rng = np.random.default_rng(seed)
    lists = [[f"ad{t}" for t in rng.zipf(1.5, size=rng.integers(0, 8)) % 40] for _ in range(num_rows)]
    return pl.DataFrame(
        {
            "click": rng.integers(0, 2, num_rows).astype(np.int8),
            "user_id": [str(u) for u in rng.zipf(1.3, num_rows) % 500],
            "site": [None if s == 0 else f"site-{s}.example" for s in rng.integers(0, 12, num_rows)],
            "clicked_ads": lists,
            "ad_id": [f"ad{a}" for a in rng.zipf(1.5, num_rows) % 50],
            "price": [None if x < 0.1 else float(round(x * 9, 2)) for x in rng.random(num_rows)],
        },
        schema_overrides={"clicked_ads": pl.List(pl.String)},
    )


def request_columns(frame: pl.DataFrame) -> dict[str, list[Any]]:
    """Return the fields of some impressions by column, as a request has them."""
    columns = {field.name: frame[field.name].to_list() for field in SCHEMA.fields}
    return columns | {"user_id": [int(user) for user in columns["user_id"]]}


def token_log(log: pl.DataFrame, schema: FeatureSchema = SCHEMA) -> TokenLog:
    """Return the log as training reads it."""
    tokens = TokenLog(schema)
    tokens.append(log)
    return tokens


def fit_encoder(log: pl.DataFrame, schema: FeatureSchema, rows: NDArray[np.int64]) -> FeatureEncoder:
    """Fit an encoder to some rows of the log."""
    return fitting.fit_encoder(token_log(log, schema), rows)


def make_artifact(
    root: Path,
    model_version: str = "v1",
    seed: int = 0,
    *,
    schema: FeatureSchema = SCHEMA,
    current: bool = True,
    evidence: bool = True,
) -> Path:
    """Write an artifact with random weights below ``root``, as an earlier version did without ``evidence``; return its directory."""
    log = make_log()
    encoder = fit_encoder(log, schema, np.arange(log.height))
    config = DeepFMConfig(embedding_dim=4, hidden=(8,))
    torch.manual_seed(seed)
    table = (torch.randn(encoder.num_rows, config.embedding_dim + 1) * 0.3).numpy()
    head = DeepFMHead(config, len(encoder.fields)).requires_grad_(requires_grad=False)
    predictor = Predictor(head.frozen(), Calibration(method="platt", slope=0.8, intercept=-1.0))
    golden = make_golden(encoder, predictor, table, log)
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        model_version=model_version,
        created="2026-01-01T00:00:00+00:00",
        model=config,
        table_rows=encoder.num_rows,
        training={"seed": seed},
        data=DataFacts(files=("log.parquet",), rows={"train": log.height}, window={}, digest="0" * 64),
        metrics={},
        environment={},
        files={},
    )
    counts = np.bincount(encode_frame(encoder, log).ids, minlength=encoder.num_rows)
    weights = {key: value.numpy() for key, value in head.state_dict().items()}
    texts, tensors = model_files(encoder, predictor.calibration, golden, {"rows": table, "counts": counts}, weights)
    if evidence:
        rows = encode_frame(encoder, log)
        gradients = Gradients(config, len(encoder.fields), weights)
        variance = np.tile([0.1] * config.embedding_dim + [0.3], (len(encoder.block_starts), 1))
        tensors["evidence.safetensors"] = fit_uncertainty(encoder, predictor, gradients, table, rows, variance)
    texts |= {"report.html": "<!doctype html>", "model_card.md": "# A model\n"}
    directory = write_artifact(root, manifest, texts, tensors)
    if current:
        set_current(root, model_version)
    return directory


def current_artifact(root: Path) -> Path:
    """Return the directory of the artifact that ``current`` names."""
    return root / read_current(root).version


def train_command(directory: Path) -> list[str]:
    """Write the log and a schema of two of its fields; return the arguments that train a small model on them."""
    make_log().write_parquet(directory / "log.parquet")
    (directory / "schema.toml").write_text(
        'label = "click"\ngroup = "user_id"\n[split]\nby_order = true\n'
        '[[field]]\nname = "user_id"\nkind = "categorical"\n[[field]]\nname = "price"\nkind = "numeric"\n',
        encoding="utf-8",
    )
    command = ["--data", str(directory / "log.parquet"), "--schema", str(directory / "schema.toml")]
    return [*command, "--out", str(directory / "out"), "--embedding-dim", "4", "--hidden", "8", "--epochs", "1"]
