"""Opens files of an artifact so that nothing outside it is read, nothing is waited for, and every byte is compared."""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import stat
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Annotated

from pydantic import Field

from models.errors import ArtifactError
from models.schema.feature_schema import Strict

PIECE_BYTES = 1 << 16
"""Bytes digested between two calls of ``yield_cpu``: a twentieth of a millisecond."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
NOT_PLAIN = {errno.ELOOP, errno.ENOTDIR, errno.ENXIO}
"""What ``open`` answers for a link, a file in the place of a directory, and a socket."""


class FileEntry(Strict):
    """Digest and size of one file."""

    sha256: Sha256
    size_bytes: Annotated[int, Field(ge=0)]


def describe_file(path: Path) -> FileEntry:
    """Return digest and size of a file just written."""
    with path.open("rb") as file:
        return FileEntry(sha256=hashlib.file_digest(file, "sha256").hexdigest(), size_bytes=path.stat().st_size)


def open_plain(name: str | Path, directory_fd: int | None = None, *, is_directory: bool = False) -> int:
    """Open a regular file, or a directory, for reading, without following links, and return its descriptor.

    Raises:
        ArtifactError: ``missing``; ``path`` for links, devices, pipes, and the other of file and directory.
        OSError: it cannot be opened now: no descriptors left, no permission, a disk that fails.
    """
    shown, kind = Path(name).name, "directory" if is_directory else "plain file"
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=directory_fd)
    except FileNotFoundError as error:
        raise ArtifactError("missing", f"{shown}: no such {'artifact' if is_directory else 'file'}") from error
    except OSError as error:
        if error.errno not in NOT_PLAIN:
            raise
        raise ArtifactError("path", f"{shown}: is not a {kind}") from error
    if not (stat.S_ISDIR if is_directory else stat.S_ISREG)(os.fstat(fd).st_mode):
        os.close(fd)
        raise ArtifactError("path", f"{shown}: is not a {kind}")
    return fd


def read_plain(name: str | Path, max_bytes: int, directory_fd: int | None = None) -> bytes:
    """Read a regular file.

    Raises:
        ArtifactError: as `open_plain`; ``size`` over ``max_bytes``.
        OSError: as `open_plain`.
    """
    with open(open_plain(name, directory_fd), "rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ArtifactError("size", f"{Path(name).name}: is larger than {max_bytes} bytes")
    return content


def map_plain(stack: ExitStack, name: str, directory_fd: int, entry: FileEntry) -> mmap.mmap | bytes:
    """Map a regular file whose size is that of ``entry``; leaving ``stack`` closes the map.

    Raises:
        ArtifactError: as `open_plain`; ``sha256`` for another size.
        OSError: as `open_plain`.
    """
    fd = open_plain(name, directory_fd)
    try:
        if os.fstat(fd).st_size != entry.size_bytes:
            raise ArtifactError("sha256", f"{name}: is not the file that was written")
        if entry.size_bytes == 0:
            return b""
        buffer = mmap.mmap(fd, 0, access=mmap.ACCESS_READ)
    finally:
        os.close(fd)
    stack.callback(_close, buffer)
    return buffer


def check_digest(name: str, buffer: mmap.mmap | bytes, entry: FileEntry, yield_cpu: Callable[[], None]) -> None:
    """Compare the SHA-256 of a whole file with that of ``entry``.

    Raises:
        ArtifactError: ``sha256``.
    """
    digest = hashlib.sha256()
    with memoryview(buffer) as view:
        for start in range(0, len(view), PIECE_BYTES):
            digest.update(view[start : start + PIECE_BYTES])
            yield_cpu()
    if digest.hexdigest() != entry.sha256:
        raise ArtifactError("sha256", f"{name}: is not the file that was written")


def _close(buffer: mmap.mmap) -> None:
    with suppress(BufferError):  # an array still views it, and closes it when it goes
        buffer.close()
