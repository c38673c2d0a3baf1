import os
from pathlib import Path

from app.registry.file_watch import FileWatch


def test_files_that_come_change_and_go_are_noticed_once(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    watch = FileWatch((a, None, b))
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
