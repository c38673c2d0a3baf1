import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.artifact.artifact import load_artifact
from models.artifact.golden import columns_of
from models.artifact.manifest import FILES, OPTIONAL_FILES
from models.errors import ArtifactError
from models.schema.feature_schema import FeatureSchema
from tests.making import SCHEMA, make_artifact
from tests.models.artifact.editing import edit_json


@pytest.fixture(scope="module")
def good(artifacts: Path) -> Path:
    return artifacts / "v1"


@pytest.fixture
def copy(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / good.name))


def refusal(directory: Path) -> str:
    with pytest.raises(ArtifactError) as caught:
        load_artifact(directory)
    return caught.value.reason


def test_a_good_artifact_answers_its_golden_rows(good: Path) -> None:
    artifact = load_artifact(good)
    batch = artifact.encoder.encode(columns_of(artifact.schema, artifact.golden.rows))
    logits = artifact.predictor.score_table(batch, artifact.table)
    np.testing.assert_allclose(logits, artifact.golden.logits, atol=1e-6)
    assert artifact.model_version == "v1"
    assert len(artifact.golden.rows) == 64
    assert len(set(artifact.golden.logits)) > 32
    with pytest.raises(ValueError, match="read-only"):
        artifact.table[0, 0] = 1.0


def test_the_same_contents_are_the_same_bytes(good: Path, tmp_path: Path) -> None:
    again = make_artifact(tmp_path)
    for name in (*FILES, *OPTIONAL_FILES, "manifest.json"):
        assert (good / name).read_bytes() == (again / name).read_bytes(), name


def drop_pooling(schema: Any) -> None:
    for part in (*schema["features"]["fields"], *schema["fitted"]):
        del part["pooling"]


def test_an_artifact_from_before_there_was_a_choice_of_pooling_takes_means(tmp_path: Path) -> None:
    document = SCHEMA.model_dump(by_alias=True)
    document["field"][2]["pooling"] = "mean"
    directory = make_artifact(tmp_path, schema=FeatureSchema.model_validate(document))
    expected = load_artifact(directory)
    edit_json(directory, "schema.json", drop_pooling)
    found = load_artifact(directory)
    assert {fitted.pooling for fitted in found.schema.fitted} == {"mean"}
    batches = [a.encoder.encode(columns_of(a.schema, expected.golden.rows)) for a in (found, expected)]
    assert any(not batch.is_single for batch in batches)
    answers = [found.predictor.score_table(batch, found.table).tobytes() for batch in batches]
    assert answers[0] == answers[1]


def test_an_artifact_that_lost_its_pooling_is_refused(copy: Path) -> None:
    edit_json(copy, "schema.json", drop_pooling)
    assert refusal(copy) == "golden"


@pytest.mark.parametrize("name", [*FILES, *OPTIONAL_FILES])
def test_any_flipped_bit_is_refused(copy: Path, name: str) -> None:
    content = bytearray((copy / name).read_bytes())
    for at in np.random.default_rng(1).integers(0, len(content), 12):
        bit = 1 << int(at % 8)
        content[at] ^= bit
        (copy / name).write_bytes(content)
        assert refusal(copy) == "sha256"
        content[at] ^= bit
    (copy / name).write_bytes(content)
    load_artifact(copy)


def test_a_load_yields_the_cpu_after_every_piece_and_finds_a_flipped_bit_in_any(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.artifact.verified_file.PIECE_BYTES", 100)
    yields: list[None] = []
    artifact = load_artifact(copy, yield_cpu=lambda: yields.append(None))
    num_bytes = sum((copy / name).stat().st_size for name in (*FILES, *OPTIONAL_FILES))
    assert len(yields) > num_bytes / 100 + len(artifact.golden.rows)
    content = bytearray((copy / "head.safetensors").read_bytes())
    for at in (99, 100, len(content) - 1):
        content[at] ^= 1
        (copy / "head.safetensors").write_bytes(content)
        assert refusal(copy) == "sha256"
        content[at] ^= 1
