"""The catalog on disk: read when it changes, and whatever takes its place, the last good one stays."""

import asyncio
import gc
import os
import socket
from pathlib import Path

import pytest

from app.problems import Problem
from app.scoring.catalog import CatalogFile


def body_of(catalog: CatalogFile) -> bytes | None:
    return None if catalog.current is None else catalog.current.body


def test_a_catalog_is_read_once_for_each_change(tmp_path: Path) -> None:
    path = tmp_path / "catalog"

    async def run() -> None:
        catalog = CatalogFile(path)
        await catalog.follow()
        assert catalog.current is None
        for body in (b"1", b"2"):
            path.write_bytes(body)
            await catalog.follow()
            found = catalog.current
            assert body_of(catalog) == body
            await catalog.follow()
            assert catalog.current is found
        path.unlink()
        await catalog.follow()
        assert body_of(catalog) == b"2"

    asyncio.run(run())


def put(path: Path, kind: str) -> None:
    path.unlink()
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(path))
    else:
        path.symlink_to("/dev/zero")


def num_descriptors() -> int:
    gc.collect()  # what earlier tests left
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("kind", ["directory", "pipe", "socket", "device"])
def test_what_is_not_a_plain_file_is_an_error_and_the_last_catalog_stays(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "catalog"

    async def run() -> None:
        catalog = CatalogFile(path)
        path.write_bytes(b"1")
        await catalog.follow()
        put(path, kind)
        before = num_descriptors()
        for _ in range(10):
            with pytest.raises(OSError, match=r"directory|plain file|No such device"):
                await catalog.follow()
        assert (num_descriptors(), body_of(catalog)) == (before, b"1")
        path.rename(tmp_path / "away")
        path.write_bytes(b"2")
        await catalog.follow()
        assert body_of(catalog) == b"2"

    asyncio.run(run())


def test_replacing_is_seen_at_once_and_not_read_again(tmp_path: Path) -> None:
    catalog = CatalogFile(tmp_path / "catalog")
    catalog.replace(b"1")
    found = catalog.current
    assert body_of(catalog) == b"1"
    asyncio.run(catalog.follow())
    assert catalog.current is found
    assert [path.name for path in tmp_path.iterdir()] == ["catalog"]


def test_without_a_path_or_a_place_to_write_there_is_nothing_to_replace(tmp_path: Path) -> None:
    with pytest.raises(Problem) as refused:
        CatalogFile(None).replace(b"1")
    assert refused.value.code == "no_catalog"
    with pytest.raises(Problem) as refused:
        CatalogFile(tmp_path / "missing" / "catalog").replace(b"1")
    assert refused.value.code == "catalog_not_kept"
