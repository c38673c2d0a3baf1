import asyncio
import os
from pathlib import Path

import pytest

from app.registry.file_watch import FileWatch, when_changed


def test_files_that_come_change_and_go_are_noticed_once(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    watch = FileWatch((a, b))
    assert [watch.has_changed(), watch.has_changed()] == [True, False]
    a.write_text("1")
    assert [watch.has_changed(), watch.has_changed()] == [True, False]
    before = a.stat()
    b.write_text("2")
    os.utime(b, ns=(before.st_atime_ns, before.st_mtime_ns))
    b.replace(a)  # of the same size and time
    assert [watch.has_changed(), watch.has_changed()] == [True, False]
    a.unlink()
    assert [watch.has_changed(), watch.has_changed()] == [True, False]
    watch.forget()
    assert [watch.has_changed(), watch.has_changed()] == [True, False]


def test_links_are_followed(tmp_path: Path) -> None:
    link, old, new = tmp_path / "keys", tmp_path / "old", tmp_path / "new"
    old.write_text("1")
    new.write_text("2")
    link.symlink_to(old)
    watch = FileWatch((link,))
    watch.has_changed()
    (tmp_path / "other").symlink_to(new)
    (tmp_path / "other").replace(link)
    assert watch.has_changed()


def test_a_changed_file_is_read_once_and_again_as_long_as_reading_it_fails(tmp_path: Path) -> None:
    path, read = tmp_path / "a", list[str]()

    async def run() -> None:
        job = when_changed([path], lambda: read.append(path.read_text()))
        for _ in range(2):
            with pytest.raises(FileNotFoundError):
                await job()
        for text in ("1", "2"):
            path.write_text(text)
            await job()
            await job()

    asyncio.run(run())
    assert read == ["1", "2"]
