"""Artifacts that are not what they should be; each must be refused with its reason while the one before goes on."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from models.artifact.current import set_current
from models.artifact.verified_file import describe_file
from tests.faults.matrix import Arena, fault
from tests.faults.watching import last_error, until
from tests.models.artifact.damages import DAMAGES, flipped
from tests.models.artifact.editing import sign


def name_current(root: Path, make: Callable[[Path], object]) -> None:
    """Put something in the place of ``current``."""
    make(root / ".next")
    (root / ".next").rename(root / "current")


def line(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text)


@fault(
    "A2",
    "artifacts damaged in every way: bits flipped, files cut or missing, another format, other tensors, NaN, a pickle, links",
    "refused with the reason; nothing is unpickled, nothing hangs; the previous model stays, ready stays 200",
)
def damaged_artifacts(arena: Arena) -> None:
    set_current(arena.artifacts, "v1")
    kinds = list(DAMAGES.items())[:: 1 if arena.scale > 1 else 2]
    damages = [*kinds, ("sha256, manifest", flipped("manifest.json"))]
    try:
        with arena.serve() as server, arena.load(server) as load:
            descriptors, held = Path(f"/proc/{server.process.pid}/fd"), 0
            for n, (what, damage) in enumerate(damages):
                reason, name = what.split(",")[0], f"bad{n}-{time.time_ns()}"
                directory = Path(shutil.copytree(arena.artifacts / "v2", arena.artifacts / name))
                sign(directory, model_version=name)
                # A name alone, as a person may write it, leaves the digest of the manifest uncompared.
                digest = describe_file(directory / "manifest.json").sha256 if what == "sha256, manifest" else ""
                before = server.metric("ctr_model_loads_total", result=reason)
                damage(directory)
                name_current(arena.artifacts, line(f"{name} {digest}"))
                until(lambda name=name: last_error(server).get("version") == name, what)  # type: ignore[misc]
                assert last_error(server)["reason"] == reason, (what, last_error(server))
                assert server.metric("ctr_model_loads_total", result=reason) == before + 1, what
                assert server.client.get("/health/ready").json()["model_version"] == "v1"
                held = held or len(list(descriptors.iterdir()))
            assert len(list(descriptors.iterdir())) <= held + 1
            assert set(load.versions) == {"v1"}
        arena.tally.notes.append(f"{len(damages)} kinds")
    finally:
        set_current(arena.artifacts, "v1")
        for path in arena.artifacts.glob("bad*"):
            if path.is_symlink():
                path.unlink()
            else:
                shutil.rmtree(path)


@fault("A8", "links, pipes, devices and `..` in `current`", "refused as `path`; nothing outside is read, nothing hangs")
def odd_current(arena: Arena) -> None:
    kinds: dict[str, Callable[[Path], object]] = {
        text[:8]: line(text) for text in ("../v2", "/etc", "v1/../v2", "", "v1;v2", "x" * 1000)
    }
    kinds |= {
        "a link": lambda path: path.symlink_to(arena.artifacts / "v2" / "schema.json"),
        "a pipe": os.mkfifo,
        "a device": lambda path: path.symlink_to("/dev/zero"),
    }
    try:
        with arena.serve() as server, arena.load(server):
            for n, (what, make) in enumerate(kinds.items()):
                name_current(arena.artifacts, make)
                until(lambda: last_error(server).get("reason") == "path", what)
                set_current(arena.artifacts, ("v2", "v1")[n % 2])  # a version that is served clears the error
                until(lambda: not last_error(server), f"{what}, put right")
    finally:
        set_current(arena.artifacts, "v1")
    arena.tally.notes.append(f"{len(kinds)} kinds of current")
