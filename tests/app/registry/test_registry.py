import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from app.embeddings.source import EmbeddingSource
from app.observability.metrics import Telemetry
from app.problems import Problem
from app.registry.registry import Registry
from app.registry.rollback import RollbackFile
from app.scoring.catalog import CatalogFile
from models.artifact.artifact import Artifact
from models.artifact.current import set_current
from tests.making import make_artifact


def make_registry(
    root: Path,
    open_source: Callable[[Artifact], EmbeddingSource] = lambda _: cast(EmbeddingSource, None),
    rollbacks: RollbackFile | None = None,
) -> Registry:
    return Registry(root, open_source, 9, CatalogFile(None), rollbacks or RollbackFile(None), Telemetry())


def test_a_rollback_does_not_wait_for_a_load_and_what_was_loading_is_not_served(tmp_path: Path) -> None:
    for seed, version in enumerate(("v1", "v2", "v3")):
        make_artifact(tmp_path, version, seed, current=version == "v1")
    has_begun, may_end = threading.Event(), threading.Event()

    def open_source(artifact: Artifact) -> EmbeddingSource:
        if artifact.model_version == "v3":
            has_begun.set()
            assert may_end.wait(30)
        return cast(EmbeddingSource, None)

    registry = make_registry(tmp_path, open_source)

    def served() -> list[str]:
        return [s.artifact.model_version for s in (registry.current, registry.previous) if s is not None]

    async def run() -> None:
        await registry.refresh()
        set_current(tmp_path, "v2")
        await registry.refresh()
        assert served() == ["v2", "v1"]
        set_current(tmp_path, "v3")
        loading = asyncio.create_task(registry.refresh())
        assert await asyncio.to_thread(has_begun.wait, 30)
        started = time.monotonic()
        await asyncio.gather(registry.roll_back(), registry.roll_back())  # the second goes back to where it was
        await registry.roll_back()
        assert time.monotonic() - started < 5
        assert served() == ["v1", "v2"]
        may_end.set()
        await loading
        await registry.refresh()
        assert served() == ["v1", "v2"]
        await registry.reload()
        assert served() == ["v3", "v1"]

    asyncio.run(run())


def test_another_workers_rollback_counts_while_a_model_is_loading(tmp_path: Path) -> None:
    for seed, version in enumerate(("v1", "v2")):
        make_artifact(tmp_path, version, seed, current=version == "v1")

    def open_source(artifact: Artifact) -> EmbeddingSource:
        if artifact.model_version == "v2":  # meanwhile an administrator asks another worker
            RollbackFile(tmp_path).write(skip="v2", serve="v1")
        return cast(EmbeddingSource, None)

    registry = make_registry(tmp_path, open_source, RollbackFile(tmp_path))

    async def run() -> None:
        await registry.refresh()
        set_current(tmp_path, "v2")
        for _ in range(2):
            await registry.refresh()
            assert registry.current is not None
            assert registry.current.artifact.model_version == "v1"

    asyncio.run(run())


def test_a_path_to_one_artifact_serves_it_and_a_wrong_path_says_what_was_expected(tmp_path: Path) -> None:
    directory = make_artifact(tmp_path, "v1", current=False)
    registry = make_registry(directory)
    asyncio.run(registry.refresh())
    assert registry.current is not None
    assert registry.current.version == "v1"
    with pytest.raises(Problem, match="unknown_version"):
        asyncio.run(registry.promote("v1"))

    for path in (tmp_path / "none", directory / "manifest.json", tmp_path):
        wrong = make_registry(path)
        asyncio.run(wrong.refresh())
        assert wrong.last_error == {
            "version": "-",
            "reason": "missing",
            "message": f"{path}: no artifact there; expected a directory of artifacts, with a file 'current', or of one, "
            "with 'manifest.json'",
        }
