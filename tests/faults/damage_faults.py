"""A2–A8, A14: artifacts that are not what they should be; each must be refused with its reason while the one before goes on."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from models.artifact.current import set_current
from models.artifact.tensor_file import map_tensors, save_tensors
from models.artifact.verified_file import describe_file
from tests.faults.matrix import Arena, fault
from tests.faults.watching import last_error, until
from tests.models.artifact.editing import edit_json, edit_tensor, sign

Damage = Callable[[Path], None]


def name_current(root: Path, line: str) -> None:
    """Replace ``current``; a name alone, as a person may write it, leaves the manifest's digest uncompared."""
    (root / ".next").write_text(line)
    (root / ".next").rename(root / "current")


def refused_under_load(arena: Arena, damages: dict[str, tuple[Damage, str]], *, with_digest: bool = False) -> None:
    """Publish damaged copies of v2 one after the other; each must be refused with its reason while v1 goes on.

    Args:
        with_digest: whether ``current`` gives the digest of the manifest before the damage.
    """
    set_current(arena.artifacts, "v1")
    names = []
    try:
        with arena.serve() as server, arena.load(server) as load:
            for n, (what, (damage, reason)) in enumerate(damages.items()):
                name = f"bad{n}-{time.time_ns()}"
                directory = Path(shutil.copytree(arena.artifacts / "v2", arena.artifacts / name))
                names.append(name)
                sign(directory, model_version=name)
                digest = describe_file(directory / "manifest.json").sha256
                before = server.metric("ctr_model_loads_total", result=reason)
                damage(directory)
                name_current(arena.artifacts, f"{name} {digest}" if with_digest else name)
                until(lambda name=name: last_error(server).get("version") == name, what)  # type: ignore[misc]
                assert last_error(server)["reason"] == reason, (what, last_error(server))
                assert server.metric("ctr_model_loads_total", result=reason) == before + 1, what
                assert server.client.get("/health/ready").json()["model_version"] == "v1"
            assert set(load.versions) == {"v1"}
        arena.tally.notes.append(f"{len(damages)} kinds")
    finally:
        set_current(arena.artifacts, "v1")
        for name in names:
            if (arena.artifacts / name).is_symlink():
                (arena.artifacts / name).unlink()
            shutil.rmtree(arena.artifacts / name, ignore_errors=True)


def flip(directory: Path, name: str, place: float) -> None:
    data = bytearray((directory / name).read_bytes())
    data[int(place * (len(data) - 1))] ^= 0x40
    (directory / name).write_bytes(data)


def cut(directory: Path, name: str, size: float) -> None:
    os.truncate(directory / name, int(size * (directory / name).stat().st_size))


@fault(
    "A2",
    "a bit flipped in any file, the manifest too",
    "refused as `sha256`; the previous model stays, ready stays 200",
)
def flipped_bits(arena: Arena) -> None:
    rng = random.Random(7)
    files = sorted(path.name for path in (arena.artifacts / "v2").iterdir())

    def at(name: str, place: float) -> Damage:
        return lambda directory: flip(directory, name, place)

    damages = {f"{n} {i}": (at(n, rng.random()), "sha256") for n in files for i in range(arena.scale)}
    refused_under_load(arena, damages, with_digest=True)


@fault("A3", "a file cut short, empty, grown or missing", "refused as `sha256` or `missing`")
def cut_files(arena: Arena) -> None:
    def grow(directory: Path) -> None:
        with (directory / "head.safetensors").open("ab") as file:
            file.write(b"\0")

    def cut_to(size: float) -> Damage:
        return lambda directory: cut(directory, "embeddings.safetensors", size)

    def without(name: str) -> Damage:
        return lambda directory: (directory / name).unlink()

    damages = {f"cut to {size:.2f}": (cut_to(size), "sha256") for size in np.linspace(0, 0.99, 3 + 2 * arena.scale)}
    damages |= {n: (without(n), "missing") for n in ("embeddings.safetensors", "schema.json", "golden.json")}
    refused_under_load(arena, damages | {"grown": (grow, "sha256")})


@fault(
    "A4",
    "a manifest that is not JSON, has an unknown key, another format version or 100 MB",
    "refused with its reason",
)
def manifests(arena: Arena) -> None:
    def huge(directory: Path) -> None:
        with (directory / "manifest.json").open("ab") as file:
            file.truncate(100 << 20)

    refused_under_load(
        arena,
        {
            "no JSON": (lambda d: cut(d, "manifest.json", 0.5), "manifest"),
            "one key too many": (lambda d: sign(d, extra=1), "manifest"),
            "another format": (lambda d: sign(d, format_version=99), "format_version"),
            "100 MB": (huge, "size"),
            "another version's name": (lambda d: sign(d, model_version="v1"), "manifest"),
        },
    )


@fault(
    "A5",
    "weights whose names, shapes or dtypes do not follow from the schema, with right digests",
    "refused as `shape`",
)
def shapes(arena: Arena) -> None:
    def renamed(directory: Path) -> None:
        tensors = map_tensors("head", (directory / "head.safetensors").read_bytes())
        tensors["other"] = tensors.pop("bias")
        save_tensors(directory / "head.safetensors", tensors)
        sign(directory, "head.safetensors")

    def field_less(directory: Path) -> None:
        def drop(schema: Any) -> None:
            del schema["num_tokens"][schema["features"]["fields"].pop()["name"]]
            schema["fitted"].pop()

        edit_json(directory, "schema.json", drop)

    edit = edit_tensor
    refused_under_load(
        arena,
        {
            "a row less": (lambda d: edit(d, "embeddings.safetensors", "rows", lambda a: a[:-1]), "shape"),
            "a column more": (
                lambda d: edit(d, "embeddings.safetensors", "rows", lambda a: np.hstack([a, a])),
                "shape",
            ),
            "integers": (lambda d: edit(d, "embeddings.safetensors", "rows", lambda a: a.astype(np.int64)), "shape"),
            "another name": (renamed, "shape"),
            "a field less in the schema": (field_less, "shape"),
        },
    )


@fault("A6", "NaN or infinity among the weights, with right digests", "refused as `finite`")
def not_finite(arena: Arena) -> None:
    def put(value: float) -> Callable[[np.ndarray], np.ndarray]:
        def edit(a: np.ndarray) -> np.ndarray:
            a.reshape(-1)[-1] = value
            return a

        return edit

    refused_under_load(
        arena,
        {
            "NaN": (lambda d: edit_tensor(d, "embeddings.safetensors", "rows", put(np.nan)), "finite"),
            "infinity": (lambda d: edit_tensor(d, "head.safetensors", "bias", put(np.inf)), "finite"),
        },
    )


@fault(
    "A7",
    "right digests, other answers: edited preprocessing, edited weights, edited golden rows",
    "refused as `golden`",
)
def golden(arena: Arena) -> None:
    def boundaries(directory: Path) -> None:
        def shift(schema: Any) -> None:
            for field in schema["fitted"]:
                field["boundaries"] = [b + 0.7 for b in field["boundaries"]]

        edit_json(directory, "schema.json", shift)

    def logits(directory: Path) -> None:
        edit_json(directory, "golden.json", lambda golden: golden["logits"].__setitem__(5, golden["logits"][5] + 1e-3))

    refused_under_load(
        arena,
        {
            "bin boundaries": (boundaries, "golden"),
            "a logit": (logits, "golden"),
            "weights": (lambda d: edit_tensor(d, "head.safetensors", "bias", lambda a: a + np.float32(0.01)), "golden"),
        },
    )


@fault(
    "A8",
    "links, pipes, devices and `..` in an artifact or in `current`",
    "refused as `path`; nothing outside is read, nothing hangs",
)
def paths(arena: Arena) -> None:
    def replaced(make: Callable[[Path], None]) -> Damage:
        def damage(directory: Path) -> None:
            (directory / "schema.json").unlink()
            make(directory / "schema.json")

        return damage

    def naming(name: str) -> Damage:
        return lambda directory: sign(directory, files={name: {"sha256": "0" * 64, "size_bytes": 1}})

    def linked(directory: Path) -> None:
        shutil.rmtree(directory)
        directory.symlink_to(arena.artifacts / "v2")

    outside = arena.artifacts / "v2" / "schema.json"
    refused_under_load(
        arena,
        {
            "a link": (replaced(lambda p: p.symlink_to(outside)), "path"),
            "a pipe": (replaced(lambda p: os.mkfifo(p)), "path"),
            "a device": (replaced(lambda p: p.symlink_to("/dev/zero")), "path"),
            "a directory": (replaced(lambda p: p.mkdir()), "path"),
            "a link for the whole": (linked, "path"),
            "`..` in the manifest": (naming("../v2/schema.json"), "manifest"),
            "a whole path in the manifest": (naming("/etc/passwd"), "manifest"),
        },
    )
    current, make = arena.artifacts / "current", arena.artifacts / ".next"

    def text(content: str) -> Callable[[], object]:
        return lambda: make.write_text(content)

    kinds: dict[str, Callable[[], object]] = {
        f"{content[:8]!r} in current": text(content)
        for content in ("../v2", "/etc", "v1/../v2", "", "v1;v2", "x" * 1000)
    }
    kinds |= {
        "current is a link": lambda: make.symlink_to(outside),
        "current is a pipe": lambda: os.mkfifo(make),
        "current is a device": lambda: make.symlink_to("/dev/zero"),
    }
    try:
        with arena.serve() as server, arena.load(server):
            for n, (what, put) in enumerate(kinds.items()):
                put()
                make.rename(current)
                until(lambda: last_error(server).get("reason") == "path", what)
                set_current(arena.artifacts, ("v2", "v1")[n % 2])  # a version that is served clears the error
                until(lambda: not last_error(server), f"{what}, put right")
    finally:
        set_current(arena.artifacts, "v1")
    arena.tally.notes.append(f"{len(kinds)} kinds of current")


@fault("A14", "a pickle as a weights file, with a right digest", "refused as `shape`; nothing is unpickled")
def planted_pickle(arena: Arena) -> None:
    proof = arena.directory / "unpickled"
    bomb = b"cos\nsystem\n(S'touch " + str(proof).encode() + b"'\ntR."

    def plant(name: str) -> Damage:
        def damage(directory: Path) -> None:
            (directory / name).write_bytes(bomb)
            sign(directory, name)

        return damage

    refused_under_load(
        arena,
        {n: (plant(n), "shape") for n in ("head.safetensors", "embeddings.safetensors", "vocabularies.safetensors")},
    )
    assert not proof.exists()
