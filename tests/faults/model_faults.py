"""A: models that come, go, and are not what they should be."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from models.artifact import load_artifact, read_current, set_current
from models.manifest import describe_file
from models.tensor_file import map_tensors, save_tensors
from tests.faults.matrix import Arena, fault
from tests.server import Server

Damage = Callable[[Path], None]


def until(done: Callable[[], bool], what: str, seconds: float = 30.0) -> float:
    """Wait; return the seconds it took."""
    started = time.monotonic()
    while not done():
        assert time.monotonic() - started < seconds, what
        time.sleep(0.005)
    return time.monotonic() - started


def version_of(server: Server) -> str:
    return str(server.client.get("/model").json()["model_version"])


def last_error(server: Server) -> dict[str, str]:
    return server.client.get("/model").json()["last_error"] or {}


def sign(directory: Path, *names: str, **changes: Any) -> None:
    """Make the manifest fit the changed files, as an attacker would."""
    manifest = json.loads((directory / "manifest.json").read_text())
    manifest["files"] |= {name: describe_file(directory / name).model_dump() for name in names}
    (directory / "manifest.json").write_text(json.dumps({**manifest, **changes}))


def edit_tensor(directory: Path, name: str, key: str, edit: Callable[[np.ndarray], np.ndarray]) -> None:
    tensors = map_tensors(name, (directory / name).read_bytes())
    tensors[key] = edit(tensors[key].copy())
    save_tensors(directory / name, tensors)
    sign(directory, name)


def refused_under_load(arena: Arena, damages: dict[str, tuple[Damage, str]]) -> None:
    """Publish damaged copies of v2 one after the other; each must be refused with its reason while v1 goes on."""
    set_current(arena.artifacts, "v1")
    names = []
    try:
        with arena.serve() as server, arena.load(server) as load:
            for n, (what, (damage, reason)) in enumerate(damages.items()):
                name = f"bad{n}-{time.time_ns()}"
                directory = Path(shutil.copytree(arena.artifacts / "v2", arena.artifacts / name))
                names.append(name)
                sign(directory, model_version=name)
                before = server.metric("ctr_model_loads_total", result=reason)
                damage(directory)
                set_current(arena.artifacts, name)
                until(lambda name=name: last_error(server).get("version") == name, what)  # type: ignore[misc]
                assert last_error(server)["reason"] == reason, (what, last_error(server))
                assert server.metric("ctr_model_loads_total", result=reason) == before + 1, what
                assert server.client.get("/health/ready").json()["model_version"] == "v1"
            assert set(load.versions) == {"v1"}
        arena.tally.notes.append(f"{len(damages)} kinds")
    finally:
        set_current(arena.artifacts, "v1")
        for name in names:
            shutil.rmtree(arena.artifacts / name, ignore_errors=True)


def flip(directory: Path, name: str, place: float) -> None:
    data = bytearray((directory / name).read_bytes())
    data[int(place * (len(data) - 1))] ^= 0x40
    (directory / name).write_bytes(data)


def cut(directory: Path, name: str, size: float) -> None:
    os.truncate(directory / name, int(size * (directory / name).stat().st_size))


@fault(
    "A1",
    "new good versions under load, one after the other",
    "no error; every answer is its version's own to the bit",
)
def swaps(arena: Arena) -> None:
    set_current(arena.artifacts, "v1")
    with arena.serve(poll_s=0.02) as server, arena.load(server, 300):
        until(lambda: version_of(server) == "v1", "v1")
        for n in range(10 * arena.scale):
            wanted = ("v2", "v1")[n % 2]
            set_current(arena.artifacts, wanted)
            until(lambda wanted=wanted: version_of(server) == wanted, wanted)  # type: ignore[misc]
        arena.tally.notes.append(f"{10 * arena.scale} swaps")
    set_current(arena.artifacts, "v1")


@fault("A2", "a bit flipped in any file", "refused as `sha256`; the model before goes on, ready stays 200")
def flipped_bits(arena: Arena) -> None:
    rng = random.Random(7)
    files = sorted(json.loads((arena.artifacts / "v2" / "manifest.json").read_text())["files"])

    def at(name: str, place: float) -> Damage:
        return lambda directory: flip(directory, name, place)

    refused_under_load(arena, {f"{n} {i}": (at(n, rng.random()), "sha256") for n in files for i in range(arena.scale)})


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
    "a manifest that is no JSON, has one key too many, another format version or 100 MB",
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


@fault("A5", "weights whose name, shape or type does not follow from the schema, signed", "refused as `shape`")
def shapes(arena: Arena) -> None:
    def renamed(directory: Path) -> None:
        tensors = map_tensors("head", (directory / "head.safetensors").read_bytes())
        tensors["other"] = tensors.pop("bias")
        save_tensors(directory / "head.safetensors", tensors)
        sign(directory, "head.safetensors")

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
        },
    )


@fault("A6", "NaN or infinity among the weights, signed", "refused as `finite`")
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
        document = json.loads((directory / "schema.json").read_text())
        for field in document["fitted"]:
            field["boundaries"] = [b + 0.7 for b in field["boundaries"]]
        (directory / "schema.json").write_text(json.dumps(document))
        sign(directory, "schema.json")

    def logits(directory: Path) -> None:
        document = json.loads((directory / "golden.json").read_text())
        document["logits"][5] += 1e-3
        (directory / "golden.json").write_text(json.dumps(document))
        sign(directory, "golden.json")

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

    outside = arena.artifacts / "v2" / "schema.json"
    refused_under_load(
        arena,
        {
            "a link": (replaced(lambda p: p.symlink_to(outside)), "path"),
            "a pipe": (replaced(lambda p: os.mkfifo(p)), "path"),
            "a device": (replaced(lambda p: p.symlink_to("/dev/zero")), "path"),
            "a directory": (replaced(lambda p: p.mkdir()), "path"),
            "`..` in the manifest": (
                lambda d: sign(d, files={"../v2/schema.json": {"sha256": "0" * 64, "size_bytes": 1}}),
                "manifest",
            ),
        },
    )
    with arena.serve() as server, arena.load(server):
        for text in ("../v2", "/etc", "v1/../v2", "", "v1;v2", "x" * 1000):
            (arena.artifacts / ".next").write_text(text)
            (arena.artifacts / ".next").rename(arena.artifacts / "current")
            until(lambda: last_error(server).get("reason") == "path", text)
        set_current(arena.artifacts, "v1")


WRITER = """
import sys
from pathlib import Path
from tests.making import make_artifact
n = 0
while True:
    make_artifact(Path(sys.argv[1]), f"w{sys.argv[2]}-{n}", seed=n)
    n += 1
"""


@fault("A9", "a trainer killed by SIGKILL while it publishes", "`current` always names a whole artifact")
def killed_writer(arena: Arena) -> None:
    root = arena.directory / "published"
    random.seed(7)
    for n in range(3 * arena.scale):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(root), str(n)])
        # Each has to start, then is killed at any point of its work.
        until(lambda n=n: any(root.glob(f"w{n}-*")), "published")  # type: ignore[misc]
        time.sleep(random.random() * 0.2)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        load_artifact(root / read_current(root))
        arena.tally.note(200, 200, 0.0)


@fault(
    "A10",
    "no artifact at the start, then a bad one, then a good one",
    "live, not ready and says why; ready once the good one is there",
)
def no_model(arena: Arena) -> None:
    root = arena.directory / "empty"
    root.mkdir()
    with serving_from(arena, root) as server:
        assert server.client.get("/health/live").status_code == 200
        ready = server.client.get("/health/ready")
        assert (ready.status_code, ready.json()["code"]) == (503, "no_model")
        answer = server.client.post("/predict", content=arena.bodies[0], headers={"content-type": "application/json"})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert last_error(server)["reason"] == "missing"
        shutil.copytree(arena.artifacts / "v1", root / "v1")
        shutil.copytree(arena.artifacts / "v1", root / "bad")
        set_current(root, "bad")
        until(lambda: last_error(server).get("reason") == "manifest", "bad")
        assert server.client.get("/health/ready").status_code == 503
        set_current(root, "v1")
        server.wait_until_ready()
        arena.ask(server)


def serving_from(arena: Arena, root: Path) -> Any:
    from tests.server import serving

    return serving(root, ready=False)


@fault("A11", "two publications at once; a rollback", "the newest wins; a rollback takes effect in well under a second")
def newest_wins(arena: Arena) -> None:
    from tests.faults.security_faults import admin, keys_of

    with arena.serve(keys=keys_of(arena)) as server:
        key = {"x-api-key": admin()}
        for version in ("v2", "v3", "v2", "v3"):
            set_current(arena.artifacts, version)
        until(lambda: server.client.get("/model", headers=key).json()["model_version"] == "v3", "v3")
        started = time.monotonic()
        assert server.client.post("/admin/rollback", headers=key).status_code == 200
        took = time.monotonic() - started
        assert took < 1
        assert server.client.get("/model", headers=key).json()["model_version"] in ("v1", "v2")
        arena.tally.note(200, 200, took)
        arena.tally.notes.append(f"rollback in {took * 1000:.0f} ms")
    set_current(arena.artifacts, "v1")


@fault("A12", "no memory to load the next model", "refused as `failed`; the model before goes on")
def no_memory(arena: Arena) -> None:
    with arena.serve() as server, arena.load(server):
        status = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
        used = next(int(line.split()[1]) for line in status if line.startswith("VmSize"))
        large = arena.artifacts / "large"
        shutil.copytree(arena.artifacts / "v2", large)
        sign(large, model_version="large")
        try:
            with (large / "embeddings.safetensors").open("r+b") as file:
                file.truncate(1 << 30)
            resource.prlimit(
                server.process.pid, resource.RLIMIT_AS, ((used << 10) + (128 << 20), resource.RLIM_INFINITY)
            )
            set_current(arena.artifacts, "large")
            until(lambda: last_error(server).get("reason") == "failed", "large")
            resource.prlimit(server.process.pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            set_current(arena.artifacts, "v2")
            until(lambda: version_of(server) == "v2", "v2")
        finally:
            shutil.rmtree(large)
            set_current(arena.artifacts, "v1")


@fault("A14", "a pickle planted as a weights file, signed", "refused as `shape`; nothing is unpickled")
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
