"""Damaged artifacts are refused; a refused load leaves no descriptor and no map open, without the garbage collector."""

import gc
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from models.artifact.artifact import load_artifact
from models.errors import ArtifactError
from tests.making import make_artifact
from tests.models.artifact.damages import DAMAGES


@pytest.fixture(autouse=True)
def _without_garbage_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def num_open(directory: Path) -> int:
    """Return how many descriptors and maps of files below a directory this process has."""
    descriptors = [str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.exists()]
    maps = Path("/proc/self/maps").read_text().splitlines()
    return sum(str(directory) in line for line in (*descriptors, *maps))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_artifact_is_refused_with_its_reason_and_leaves_nothing_open(
    artifacts: Path, tmp_path: Path, damage: str
) -> None:
    directory = Path(shutil.copytree(artifacts / "v1", tmp_path / "v1"))
    DAMAGES[damage](directory)
    for _ in range(5):
        with pytest.raises(ArtifactError) as refused:
            load_artifact(directory, num_threads=2)
        assert refused.value.reason == damage.split(",")[0]
        assert str(tmp_path) not in str(refused.value)
        assert num_open(tmp_path) == 0


def test_a_load_that_is_interrupted_anywhere_leaves_nothing_open(tmp_path: Path) -> None:
    directory = make_artifact(tmp_path)
    num_yields = 0

    def stop_at(at: int) -> Callable[[], None]:
        def yield_cpu() -> None:
            nonlocal num_yields
            num_yields += 1
            if num_yields == at:
                raise MemoryError

        return yield_cpu

    at = 0
    while num_yields >= at:
        at, num_yields = at + 1, 0
        try:
            load_artifact(directory, yield_cpu=stop_at(at))
        except MemoryError:
            assert num_open(tmp_path) == 0
    assert at > 64  # every step was one


def test_a_load_without_descriptors_leaves_none_open_and_works_once_there_are_some(tmp_path: Path) -> None:
    directory = make_artifact(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(fd.name) for fd in Path("/proc/self/fd").iterdir())
    free = [os.open("/dev/null", os.O_RDONLY) for _ in range(highest)]  # so that no gap below the limit is left
    try:
        for room in range(10):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(free) + 1 + room, limits[1]))
            with pytest.raises(OSError, match="Too many open files"):
                load_artifact(directory)
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            assert num_open(tmp_path) == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in free:
            os.close(fd)
    load_artifact(directory)


def test_an_artifact_that_nobody_uses_any_more_is_closed(tmp_path: Path) -> None:
    directory = make_artifact(tmp_path)
    artifact = load_artifact(directory)
    table = artifact.table
    del artifact
    assert num_open(tmp_path) == 2  # the map of the table and its descriptor
    assert np.isfinite(table).all()
    del table
    assert num_open(tmp_path) == 0
