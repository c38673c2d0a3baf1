"""Reload and rollback, behind a key, in every worker."""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from models.artifact.current import read_current, set_current
from tests.making import make_artifact
from tests.server import Server, serving

SECRET = "o" * 43


@pytest.fixture(params=[2], ids=["two workers"])
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    make_artifact(tmp_path / "artifacts", "v1")
    make_artifact(tmp_path / "artifacts", "v2", seed=1, current=False)
    (tmp_path / "keys").write_text(f"ops admin,predict,metrics {hashlib.sha256(SECRET.encode()).hexdigest()}\n")
    with serving(tmp_path / "artifacts", keys=tmp_path / "keys", workers=request.param) as running:
        yield running


def post(server: Server, path: str, version: object = None) -> httpx.Response:
    body = None if version is None else {"version": version}
    return httpx.post(f"{server.client.base_url}{path}", json=body, headers={"x-api-key": SECRET}, timeout=20)


def serves(server: Server, version: str) -> bool:
    # A connection each, so that every worker is asked.
    versions = {httpx.get(f"{server.client.base_url}/health/ready").json().get("model_version") for _ in range(16)}
    return versions == {version}


def test_a_rollback_holds_until_current_changes_and_a_reload_ends_it(server: Server, tmp_path: Path) -> None:
    root = tmp_path / "artifacts"
    server.wait_for(lambda: serves(server, "v1"))
    assert post(server, "/admin/rollback").json()["code"] == "no_previous"
    set_current(root, "v2")
    server.wait_for(lambda: serves(server, "v2"))

    assert post(server, "/admin/rollback").json() == {"model_version": "v1", "previous": "v2"}
    server.wait_for(lambda: serves(server, "v1"))
    assert all(serves(server, "v1") for _ in range(5))  # several looks at `current`, which still names v2

    assert post(server, "/admin/reload").json()["model_version"] == "v2"
    server.wait_for(lambda: serves(server, "v2"))

    assert post(server, "/admin/rollback").json()["model_version"] == "v1"
    server.wait_for(lambda: serves(server, "v1"))
    make_artifact(root, "v3", seed=2)
    server.wait_for(lambda: serves(server, "v3"))


def test_a_rollback_against_a_broken_current_is_refused_and_not_a_defect(server: Server, tmp_path: Path) -> None:
    root = tmp_path / "artifacts"
    server.wait_for(lambda: serves(server, "v1"))  # or a worker that comes late has v2 as its first, and none before
    set_current(root, "v2")
    server.wait_for(lambda: serves(server, "v2"))
    (root / "current").unlink()
    answer = post(server, "/admin/rollback")
    assert (answer.status_code, answer.json()["code"]) == (409, "artifact_refused")
    assert serves(server, "v2")


def test_what_was_refused_is_tried_again_on_reload(server: Server, tmp_path: Path) -> None:
    root = tmp_path / "artifacts"
    server.wait_for(lambda: serves(server, "v1"))
    whole = (root / "v2" / "head.safetensors").read_bytes()
    damaged = root / ".damaged"
    damaged.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    damaged.rename(root / "v2" / "head.safetensors")
    set_current(root, "v2")
    answer = post(server, "/admin/reload")
    assert (answer.status_code, answer.json()["code"]) == (409, "artifact_refused")
    assert serves(server, "v1")
    shutil.copy(root / "v1" / "model_card.md", root / "x")  # anything else in the directory does not matter
    damaged.write_bytes(whole)
    damaged.rename(root / "v2" / "head.safetensors")
    assert post(server, "/admin/reload").json()["model_version"] == "v2"
    server.wait_for(lambda: serves(server, "v2"))


@pytest.mark.parametrize("server", [1], indirect=True, ids=["one worker"])
def test_a_target_is_named_and_a_wrong_one_changes_nothing(server: Server, tmp_path: Path) -> None:
    root = tmp_path / "artifacts"
    make_artifact(root, "v3", seed=2, current=False)
    make_artifact(root, "bad", seed=3, current=False)
    (root / "bad" / "golden.json").write_text("{}")
    before = (root / "current").read_bytes()
    for path in ("/admin/rollback", "/admin/promote"):
        for version, expected in (
            ("v9", (404, "unknown_version")),
            ("../artifacts/v2", (404, "unknown_version")),
            ("bad", (409, "artifact_refused")),
            (7, (422, "invalid_input")),
        ):
            answer = post(server, path, version)
            assert (answer.status_code, answer.json()["code"]) == expected
    assert post(server, "/admin/promote").json()["code"] == "unsupported_media_type"
    assert serves(server, "v1")
    assert (root / "current").read_bytes() == before

    assert post(server, "/admin/promote", "v2").json() == {"model_version": "v2", "previous": "v1"}
    assert read_current(root).version == "v2"
    # Neither the model before nor the one that `current` names.
    assert post(server, "/admin/rollback", "v3").json() == {"model_version": "v3", "previous": "v2"}
    assert read_current(root).version == "v2"
    assert post(server, "/admin/rollback", "v2").json()["model_version"] == "v2"
