"""A refused load leaves no descriptor and no map open, without any help of the garbage collector."""

import gc
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from models.artifact.artifact import load_artifact
from models.artifact.manifest import FILES
from models.errors import ArtifactError
from tests.making import make_artifact
from tests.models.artifact.editing import edit_json, edit_tensor, sign


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


def put_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def cut_tensors(directory: Path) -> None:
    path = directory / "embeddings.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    sign(directory, path.name)


DAMAGES: dict[str, Callable[[Path], object]] = {
    **{f"missing, {name}": lambda d, name=name: (d / name).unlink() for name in FILES},  # type: ignore[misc]
    "path": lambda d: put_directory(d / "report.html"),
    "size": lambda d: (d / "manifest.json").write_bytes(b" " * (2 << 20)),
    "manifest": lambda d: sign(d, surprise=1),
    "manifest, JSON of the schema": lambda d: edit_json(d, "schema.json", lambda schema: schema.update(surprise=1)),
    "manifest, JSON of the golden rows": lambda d: edit_json(d, "golden.json", lambda golden: golden.pop("rows")),
    "format_version": lambda d: sign(d, format_version=2),
    "sha256": lambda d: (d / "head.safetensors").write_bytes((d / "head.safetensors").read_bytes()[::-1]),
    "sha256, size": lambda d: (d / "head.safetensors").write_bytes(b"x"),
    "shape": cut_tensors,
    "shape, dtype": lambda d: edit_tensor(d, "embeddings.safetensors", "rows", lambda a: a.astype(np.uint8)),
    "shape, vocabulary": lambda d: edit_tensor(d, "vocabularies.safetensors", "ad_id.positions", lambda a: a + 1),
    "finite": lambda d: edit_tensor(d, "embeddings.safetensors", "rows", lambda a: a * np.float32(np.inf)),
    "finite, head": lambda d: edit_tensor(d, "head.safetensors", "deep.0.weight", lambda a: a * np.float32(np.nan)),
    "golden": lambda d: edit_tensor(d, "head.safetensors", "bias", lambda a: a + np.float32(1)),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_refused_load_leaves_nothing_open(tmp_path: Path, damage: str) -> None:
    directory = make_artifact(tmp_path)
    DAMAGES[damage](directory)
    for _ in range(20):
        with pytest.raises(ArtifactError) as refused:
            load_artifact(directory, num_threads=2)
        assert refused.value.reason == damage.split(",")[0]
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
