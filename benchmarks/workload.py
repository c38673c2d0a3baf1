"""The model and the requests of the serving benchmark: one DeepFM, 26 categorical and 13 numeric fields, 1 M ids × 16.

Everything is seeded. The same weights are written twice: as an artifact, and as plain arrays for the peers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
from safetensors.numpy import save_file

from models.artifact import Golden, columns_of, set_current, write_artifact
from models.calibration import Calibration
from models.deepfm import DeepFMHead
from models.encoding import FeatureEncoder
from models.head import DeepFMConfig
from models.manifest import FORMAT_VERSION, DataFacts, Manifest
from models.predictor import Predictor
from models.schema import FeatureSchema, FieldSpec, FittedField, FittedSchema
from models.vocabulary import Vocabulary

SEED = 7
NUM_CATEGORICAL, NUM_NUMERIC, TOKENS_PER_FIELD = 26, 13, 38_460
CONFIG = DeepFMConfig(embedding_dim=16, hidden=(400, 400, 400))
BOUNDARIES = tuple(float(x) for x in range(19))
TOKENS = [f"{i * 2654435761 % 2**32:08x}" for i in range(TOKENS_PER_FIELD)]
UNSEEN_SHARE = 0.01


def make_fields() -> tuple[FieldSpec, ...]:
    """Return the fields, half of them of each side."""
    names = [(f"C{i}", "categorical") for i in range(NUM_CATEGORICAL)] + [
        (f"I{i}", "numeric") for i in range(NUM_NUMERIC)
    ]
    return tuple(
        FieldSpec.model_validate({"name": name, "kind": kind, "side": "candidate" if i % 2 else "context"})
        for i, (name, kind) in enumerate(names)
    )


class Traffic:
    """Rows with Zipf-distributed tokens, one in a hundred unseen."""

    def __init__(self, seed: int = SEED) -> None:
        self._rng = np.random.default_rng(seed)

    def row(self) -> dict[str, Any]:
        """Return one impression."""
        at = np.minimum(self._rng.zipf(1.2, NUM_CATEGORICAL), TOKENS_PER_FIELD) - 1
        unseen = self._rng.random(NUM_CATEGORICAL) < UNSEEN_SHARE
        tokens = {f"C{i}": "unseen" if u else TOKENS[a] for i, (a, u) in enumerate(zip(at, unseen, strict=True))}
        return tokens | {f"I{i}": float(x) for i, x in enumerate(self._rng.integers(0, 20, NUM_NUMERIC))}

    def rows(self, n: int) -> list[dict[str, Any]]:
        """Return n impressions."""
        return [self.row() for _ in range(n)]


def write_model(root: Path) -> None:
    """Write ``root/artifacts`` for ctrserve, and ``root/model.safetensors`` and ``root/vocabulary.json`` for the others."""
    fields = make_fields()
    vocabulary = Vocabulary.from_tokens(TOKENS)
    fitted = [FittedField(dtype="string", example=TOKENS[0])] * NUM_CATEGORICAL
    fitted += [FittedField(dtype=None, boundaries=BOUNDARIES, example=1.0)] * NUM_NUMERIC
    num_tokens = {f.name: TOKENS_PER_FIELD if f.kind == "categorical" else len(BOUNDARIES) + 1 for f in fields}
    schema = FittedSchema(
        features=FeatureSchema(label="click", fields=fields), fitted=tuple(fitted), num_tokens=num_tokens
    )
    encoder = FeatureEncoder(schema, {f.name: vocabulary for f in fields if f.kind == "categorical"})
    table = (np.random.default_rng(SEED).normal(size=(encoder.num_rows, CONFIG.embedding_dim + 1)) * 0.1).astype(
        np.float32
    )
    torch.manual_seed(SEED)
    module = DeepFMHead(CONFIG, len(fields)).requires_grad_(requires_grad=False)
    predictor = Predictor(module.frozen(), Calibration())
    rows = Traffic(seed=1).rows(64)
    logits = predictor.score_table(encoder.encode(columns_of(schema, rows)), table)
    golden = Golden(
        rows=tuple(rows), logits=tuple(logits.tolist()), probabilities=tuple(predictor.probabilities(logits).tolist())
    )
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        model_version="benchmark",
        created="2026-01-01T00:00:00+00:00",
        model=CONFIG,
        table_rows=encoder.num_rows,
        training={"seed": SEED},
        data=DataFacts(files=(), rows={}, window={}, digest="0" * 64),
        metrics={},
        environment={},
        files={},
    )
    head = {key: value.numpy() for key, value in module.state_dict().items()}
    texts = {
        "schema.json": schema.model_dump_json(),
        "calibration.json": predictor.calibration.model_dump_json(),
        "golden.json": golden.model_dump_json(),
        "report.html": "",
        "model_card.md": "",
    }
    vocabularies = {f"{n}.{part}": array for n, v in encoder.vocabularies.items() for part, array in v.arrays.items()}
    tensors = {
        "vocabularies.safetensors": vocabularies,
        "embeddings.safetensors": {"rows": table, "counts": np.ones(len(table), np.int64)},
        "head.safetensors": head,
    }
    write_artifact(root / "artifacts", manifest, texts, tensors)
    set_current(root / "artifacts", "benchmark")
    starts = {f.name: int(encoder.fields[i].start) for i, f in enumerate(fields)}
    save_file(
        {"table": table, **{name: np.asarray(array, order="C") for name, array in head.items()}},
        root / "model.safetensors",
    )
    (root / "vocabulary.json").write_text(json.dumps({"tokens": TOKENS, "starts": starts, "boundaries": BOUNDARIES}))


def write_lua(path: Path, bodies: list[bytes]) -> None:
    """Write a wrk script that cycles over request bodies."""
    lines = [f"bodies[{i + 1}] = [==[{body.decode()}]==]" for i, body in enumerate(bodies)]
    request = "request = function() at = at % #bodies + 1; return wrk.format(nil, nil, nil, bodies[at]) end"
    head = [
        "local bodies = {}",
        *lines,
        "local at = 0",
        'wrk.method = "POST"',
        'wrk.headers["Content-Type"] = "application/json"',
    ]
    path.write_text("\n".join([*head, request]) + "\n")


def write_requests(root: Path) -> None:
    """Write the wrk scripts, and the catalog that ``/rank`` takes its candidates from."""
    traffic = Traffic()
    write_lua(root / "rows-1.lua", [orjson.dumps({"instances": traffic.rows(1)}) for _ in range(300)])
    write_lua(root / "rows-100.lua", [orjson.dumps({"instances": traffic.rows(100)}) for _ in range(30)])
    write_lua(root / "rows-1000.lua", [orjson.dumps({"instances": traffic.rows(1_000)}) for _ in range(10)])
    for n in (100, 1_000):
        bodies = []
        for _ in range(10):
            rows = traffic.rows(n)
            bodies.append(orjson.dumps({"inputs": {name: [row[name] for row in rows] for name in rows[0]}}))
        write_lua(root / f"columns-{n}.lua", bodies)
    sides: dict[str, list[str]] = {"context": [], "candidate": []}
    for field in make_fields():
        sides[field.side].append(field.name)
    items = {f"c{i}": {name: row[name] for name in sides["candidate"]} for i, row in enumerate(traffic.rows(20_000))}
    (root / "catalog.json").write_bytes(orjson.dumps({"items": items}))
    rng = np.random.default_rng(SEED)
    bodies = []
    for row in traffic.rows(30):
        ids = [f"c{i}" for i in rng.choice(len(items), 1_000, replace=False)]
        context = {name: row[name] for name in sides["context"]}
        bodies.append(orjson.dumps({"context": context, "candidate_ids": ids, "top_k": 100}))
    write_lua(root / "rank-1000.lua", bodies)
