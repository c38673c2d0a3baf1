"""Refused versions leave nothing behind, and are tried again when that may help."""

import asyncio
import gc
import json
import logging
import resource
from pathlib import Path
from typing import cast

import pytest

from app.embeddings.source import EmbeddingSource
from models.artifact.artifact import Artifact
from models.artifact.current import set_current
from tests.app.registry.test_registry import make_registry
from tests.faults.watching import last_error, version_of
from tests.making import make_artifact
from tests.models.artifact.test_refused_loads import num_open
from tests.server import serving


def test_what_fails_after_the_load_leaves_nothing_open(tmp_path: Path) -> None:
    make_artifact(tmp_path)
    make_artifact(tmp_path, "v2", 1, current=False)

    def open_source(artifact: Artifact) -> EmbeddingSource:
        if artifact.model_version == "v2":
            raise MemoryError
        return cast(EmbeddingSource, None)

    registry = make_registry(tmp_path, open_source)

    async def run() -> None:
        await registry.follow()
        set_current(tmp_path, "v2")
        for _ in range(5):
            await registry.reload()
            assert registry.last_error is not None
            assert registry.last_error["reason"] == "failed"
            assert num_open(tmp_path / "v2") == 0

    gc.collect()
    gc.disable()
    try:
        asyncio.run(run())
    finally:
        gc.enable()


def test_a_damaged_version_is_read_again_when_a_file_changes_and_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_artifact(tmp_path)
    path = make_artifact(tmp_path, "v2", 1) / "head.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"\xff")
    registry = make_registry(tmp_path)

    def state() -> tuple[str | None, str | None]:
        version = None if registry.current is None else registry.current.version
        return version, None if registry.last_error is None else registry.last_error["reason"]

    async def run() -> None:
        for _ in range(3):
            await registry.follow()
        assert state() == (None, "sha256")
        path.write_bytes(content)
        await registry.follow()
        assert state() == ("v2", None)

    caplog.set_level(logging.INFO, "ctrserve.registry")
    asyncio.run(run())
    assert [line.split()[0] for line in caplog.messages] == ["refused", "serving"]


def test_without_descriptors_a_good_version_is_refused_and_served_once_there_are_some(tmp_path: Path) -> None:
    make_artifact(tmp_path)
    make_artifact(tmp_path, "v2", 1, current=False)
    with serving(tmp_path, poll_s=0.05) as server:
        pid = server.process.pid

        assert last_error(server) == {}  # the client keeps the connection
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        highest = max(int(fd.name) for fd in Path(f"/proc/{pid}/fd").iterdir())
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 1, limits[1]))
        set_current(tmp_path, "v2")
        server.wait_for(lambda: last_error(server).get("reason") == "failed")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        server.wait_for(lambda: version_of(server) == "v2")
        assert last_error(server) == {}
        lines = [json.loads(line) for line in server.log.read_text().splitlines()]
        refused = [line for line in lines if line["event"].startswith("refused")]
        assert "Too many open files" in refused[0]["exception"]
        assert len(refused) <= 2  # `current` could not be read; then v2 could not
