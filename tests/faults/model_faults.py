"""A: models that come and go, and a service or a trainer that has none, dies or runs out of memory."""

from __future__ import annotations

import hashlib
import json
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import orjson
from numpy.typing import NDArray

from models.artifact.artifact import load_artifact
from models.artifact.current import read_current, set_current
from models.artifact.golden import columns_of
from tests.faults.matrix import JSON, Arena, fault
from tests.faults.watching import last_error, until, version_of
from tests.hostile.probing import resident_mib
from tests.making import make_log
from tests.models.artifact.editing import edit_tensor, sign
from tests.server import Server, serving


@fault(
    "A1",
    "new good versions under load, one after the other",
    "no error; every answer equals its version's to the bit",
)
def swaps(arena: Arena) -> None:
    set_current(arena.artifacts, "v1")
    with arena.serve(poll_s=0.05) as server, arena.load(server, 300) as load:
        until(lambda: version_of(server) == "v1", "v1")
        swap_in_turn(arena, server, 8)  # what two models and the allocator need is there from now on
        memory, steady = resident_mib(server), time.monotonic()
        time.sleep(0.5 * arena.scale)
        swapping = time.monotonic()
        swap_in_turn(arena, server, 6 * arena.scale)
        end = time.monotonic()
        after = resident_mib(server)
        before, during = load.quantile_ms(0.99, steady, swapping), load.quantile_ms(0.99, swapping, end)
        arena.tally.notes.append(
            f"{6 * arena.scale} swaps in {end - swapping:.1f} s, p99 {before:.1f} ms before and {during:.1f} ms during, "
            f"memory {memory:.1f} → {after:.1f} MiB"
        )
        assert after < memory + 4  # one table of known tokens; of a hundred models the smallest leak is more
    set_current(arena.artifacts, "v1")


def swap_in_turn(arena: Arena, server: Server, number: int) -> None:
    for n in range(number):
        wanted = ("v2", "v3", "v1")[n % 3]  # the version before would still be in memory, and not be loaded
        set_current(arena.artifacts, wanted)
        until(lambda wanted=wanted: version_of(server) == wanted, wanted)  # type: ignore[misc]


@fault("A9", "a trainer killed by SIGKILL while it publishes", "`current` always names a whole artifact")
def killed_writer(arena: Arena) -> None:
    root = arena.directory / "published"
    random.seed(7)
    for n in range(2 * arena.scale):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(root), str(n)])
        # Each has to start, then is killed at any point of its work.
        until(lambda n=n: any(root.glob(f"w{n}-*")), "published")  # type: ignore[misc]
        time.sleep(random.random() * 0.2)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        current = read_current(root)
        load_artifact(root / current.version, current.manifest_sha256)
        arena.tally.note(200, 200, 0.0)


@fault(
    "A10",
    "no artifact at the start, then a bad one, then a good one; a bad one at the start",
    "live, not ready and says why; ready once the good one is there",
)
def no_model(arena: Arena) -> None:
    root = arena.directory / "empty"
    root.mkdir()
    with serving(root, ready=False) as server:
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
    set_current(root, "bad")
    with serving(root, ready=False) as server:
        assert server.client.get("/health/live").status_code == 200
        assert server.client.get("/health/ready").status_code == 503
        assert last_error(server)["reason"] == "manifest"
        set_current(root, "v1")
        server.wait_until_ready()
        arena.ask(server, 1)


@fault("A11", "two publications at once; a rollback", "the newest wins; a rollback takes effect in well under a second")
def newest_wins(arena: Arena) -> None:
    set_current(arena.artifacts, "v1")
    secret = "a" * 43
    (arena.directory / "keys").write_text(f"ops admin,predict {hashlib.sha256(secret.encode()).hexdigest()}\n")
    with arena.serve(keys=arena.directory / "keys") as server:
        key = {"x-api-key": secret}

        def has_settled() -> bool:
            for _ in range(10):
                if server.client.get("/model", headers=key).json()["model_version"] != "v3":
                    return False
                time.sleep(0.05)
            return True

        for version in ("v2", "v3", "v2", "v3"):
            set_current(arena.artifacts, version)
        until(has_settled, "v3")
        started = time.monotonic()
        assert server.client.post("/admin/rollback", headers=key).status_code == 200
        took = time.monotonic() - started
        assert took < 1
        assert server.client.get("/model", headers=key).json()["model_version"] in ("v1", "v2")
        arena.tally.note(200, 200, took)
        arena.tally.notes.append(f"rollback in {took * 1000:.0f} ms")
    set_current(arena.artifacts, "v1")


@fault("A12", "no memory to load the next model", "refused as `failed`; the previous model stays")
def no_memory(arena: Arena) -> None:
    with arena.serve() as server, arena.load(server):
        status = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
        used = next(int(line.split()[1]) for line in status if line.startswith("VmSize"))
        large = arena.artifacts / "large"
        shutil.copytree(arena.artifacts / "v2", large)
        entries = json.loads((large / "manifest.json").read_text())["files"]
        entries["embeddings.safetensors"]["size_bytes"] = 1 << 30
        sign(large, model_version="large", files=entries)
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


@fault(
    "D9",
    "a model whose golden rows are right, but whose answer for one user is NaN",
    "500 `invalid_output` for requests with that user only; the model stays",
)
def no_probability(arena: Arena) -> None:
    root = arena.directory / "overflowing"
    directory = Path(shutil.copytree(arena.artifacts / "v1", root / "v1"))
    artifact = load_artifact(directory)
    asked = [{"user_id": user} for body in arena.bodies for user in orjson.loads(body)["inputs"]["user_id"]]

    def row_of(user: Any) -> int:
        return int(artifact.encoder.encode(columns_of(artifact.schema, [{"user_id": user}])).ids[0])

    taken = {row_of(row.get("user_id")) for row in (*asked, *artifact.golden.rows)}
    user = next(int(u) for u in make_log()["user_id"] if row_of(int(u)) not in taken)
    body, at = orjson.dumps({"inputs": {"user_id": [user]}}), row_of(user)

    def overflow(rows: NDArray[Any]) -> NDArray[Any]:
        rows[at] = 3e38
        return rows

    edit_tensor(directory, "embeddings.safetensors", "rows", overflow)
    set_current(root, "v1")
    with serving(root) as server, arena.load(server, num_threads=4):  # questions meet in one matrix product
        for _ in range(100 * arena.scale):
            answer = server.client.post("/predict", content=body, headers=JSON)
            assert answer.json()["code"] == "invalid_output"
            arena.tally.note(answer.status_code, 500, answer.elapsed.total_seconds())
            time.sleep(0.01)
        assert server.client.get("/health/ready").json()["model_version"] == "v1"
        assert server.metric("ctr_requests_total", path="/predict", status="500") == 100 * arena.scale
        assert {json.loads(line)["level"] for line in server.log.read_text().splitlines()} == {"info", "warning"}


WRITER = """
import sys
from pathlib import Path
from tests.making import make_artifact
n = 0
while True:
    make_artifact(Path(sys.argv[1]), f"w{sys.argv[2]}-{n}", seed=n)
    n += 1
"""
