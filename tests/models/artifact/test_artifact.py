import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.artifact.artifact import load_artifact
from models.artifact.golden import columns_of
from models.artifact.manifest import FILES
from models.errors import ArtifactError
from tests.making import make_artifact
from tests.models.artifact.editing import edit_json, edit_tensor, sign


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artifact(tmp_path_factory.mktemp("artifacts"))


@pytest.fixture
def copy(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / good.name))


def refusal(directory: Path) -> str:
    with pytest.raises(ArtifactError) as caught:
        load_artifact(directory)
    assert str(directory.parent) not in str(caught.value)
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
    for name in (*FILES, "manifest.json"):
        assert (good / name).read_bytes() == (again / name).read_bytes(), name


@pytest.mark.parametrize("name", FILES)
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
    num_bytes = sum((copy / name).stat().st_size for name in FILES)
    assert len(yields) > num_bytes / 100 + len(artifact.golden.rows)
    content = bytearray((copy / "head.safetensors").read_bytes())
    for at in (99, 100, len(content) - 1):
        content[at] ^= 1
        (copy / "head.safetensors").write_bytes(content)
        assert refusal(copy) == "sha256"
        content[at] ^= 1


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("keep", [0, 1, 7, 9, -1])
def test_a_cut_file_is_refused(copy: Path, name: str, keep: int) -> None:
    (copy / name).write_bytes((copy / name).read_bytes()[:keep])
    assert refusal(copy) == "sha256"


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_missing_file_is_refused(copy: Path, name: str) -> None:
    (copy / name).unlink()
    assert refusal(copy) == "missing"


@pytest.mark.parametrize("kind", ["link", "pipe", "directory", "device"])
def test_what_is_not_a_plain_file_is_refused_without_reading_it(copy: Path, kind: str) -> None:
    path = copy / "golden.json"
    content = path.read_bytes()
    path.unlink()
    if kind == "link":
        (copy.parent / "elsewhere").write_bytes(content)
        path.symlink_to(copy.parent / "elsewhere")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    assert refusal(copy) == "path"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format_version": 2}, "format_version"),
        ({"format_version": 0}, "format_version"),
        ({"surprise": 1}, "manifest"),
        ({"table_rows": 7}, "shape"),
        ({"model_version": "v2"}, "manifest"),
        ({"model": {"embedding_dim": 5, "hidden": [8]}}, "shape"),
        ({"model": {"embedding_dim": 4, "hidden": [9]}}, "shape"),
        ({"files": {}}, "manifest"),
        ({"files": {"../secret": {"sha256": "0" * 64, "size_bytes": 1}}}, "manifest"),
    ],
    ids=str,
)
def test_a_manifest_that_does_not_fit_is_refused(copy: Path, change: dict[str, Any], reason: str) -> None:
    sign(copy, **change)
    assert refusal(copy) == reason


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"[" * 100_000, b"\xff\xfe", b'{"format_version":1}'])
def test_a_manifest_that_is_none_is_refused(copy: Path, content: bytes) -> None:
    (copy / "manifest.json").write_bytes(content)
    assert refusal(copy) == "manifest"


def test_a_huge_manifest_is_refused_unread(copy: Path) -> None:
    with (copy / "manifest.json").open("r+b") as file:
        file.truncate(100 << 20)
    assert refusal(copy) == "size"


@pytest.mark.parametrize("name", ["embeddings.safetensors", "head.safetensors"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(copy: Path, name: str, bad: float) -> None:
    key = {"embeddings.safetensors": "rows", "head.safetensors": "deep.0.weight"}[name]

    def spoil(array: np.ndarray) -> np.ndarray:
        array[-1, -1] = bad
        return array

    edit_tensor(copy, name, key, spoil)
    assert refusal(copy) == "finite"


@pytest.mark.parametrize(
    ("name", "key", "edit"),
    [
        ("embeddings.safetensors", "rows", lambda a: a[:-1]),
        ("embeddings.safetensors", "counts", lambda a: a[:-1]),
        ("embeddings.safetensors", "rows", lambda a: a.astype(np.uint8)),
        ("head.safetensors", "bias", lambda a: a.reshape(1)),
        ("vocabularies.safetensors", "ad_id.positions", lambda a: a + 1),
        ("vocabularies.safetensors", "ad_id.ends", lambda a: a[:-1]),
    ],
)
def test_tensors_that_do_not_fit_the_schema_are_refused(
    copy: Path, name: str, key: str, edit: Callable[[np.ndarray], np.ndarray]
) -> None:
    edit_tensor(copy, name, key, edit)
    assert refusal(copy) == "shape"


def test_other_preprocessing_with_a_right_digest_is_refused_by_the_golden_rows(copy: Path) -> None:
    def shift(schema: Any) -> None:
        price = schema["fitted"][-1]
        price["boundaries"] = [b + 1.0 for b in price["boundaries"]]

    edit_json(copy, "schema.json", shift)
    assert refusal(copy) == "golden"


def test_other_answers_with_a_right_digest_are_refused(copy: Path) -> None:
    edit_json(copy, "golden.json", lambda golden: golden["logits"].__setitem__(5, golden["logits"][5] + 1e-4))
    assert refusal(copy) == "golden"


def test_an_artifact_without_golden_rows_is_refused(copy: Path) -> None:
    edit_json(copy, "golden.json", lambda golden: golden.update(rows=[], logits=[], probabilities=[]))
    assert refusal(copy) == "golden"


def test_a_schema_with_an_unknown_key_is_refused(copy: Path) -> None:
    edit_json(copy, "schema.json", lambda schema: schema.update(surprise=1))
    assert refusal(copy) == "manifest"


def test_a_pickle_in_place_of_weights_is_refused(copy: Path) -> None:
    (copy / "head.safetensors").write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    sign(copy, "head.safetensors")
    assert refusal(copy) == "shape"
