"""D: processes that are stopped, killed, starved and started badly."""

from __future__ import annotations

import ast
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import httpx

from tests.clients import HALVES, IMPATIENT, IMPATIENT_S, children, open_with
from tests.faults.matrix import JSON, Arena, fault
from tests.faults.watching import until


@fault("D5", "SIGTERM under load from clients with kept connections", "no error; they are told to close; exit status 0")
def stop_under_load(arena: Arena) -> None:
    for _ in range(arena.scale):
        with arena.serve(drain_s=1) as server:
            url = str(server.client.base_url)
            failures: list[str] = []

            def client(url: str = url, failures: list[str] = failures) -> None:
                with httpx.Client(base_url=url, timeout=10) as http:
                    for n in range(100_000):
                        try:
                            answer = http.post("/predict", content=arena.bodies[n % 24], headers=JSON)
                        except httpx.TransportError as error:
                            failures.append(repr(error))
                            return
                        right = arena.answers.is_right(n % 24, answer.content, to_the_bit=False)
                        arena.tally.note(answer.status_code, 200, answer.elapsed.total_seconds(), right)
                        if answer.headers.get("connection") == "close":
                            return

            clients = [threading.Thread(target=client) for _ in range(8)]
            for thread in clients:
                thread.start()
            time.sleep(0.5)
            server.process.send_signal(signal.SIGTERM)
            until(lambda url=url: httpx.get(f"{url}/health/ready").status_code == 503, "draining", 0.9)  # type: ignore[misc]
            assert httpx.get(f"{url}/health/ready").json()["code"] == "draining"
            assert httpx.post(f"{url}/predict", content=arena.bodies[0], headers=JSON).status_code == 200
            for thread in clients:
                thread.join(15)
            assert server.process.wait(15) == 0
            assert failures == []


@fault(
    "D6",
    "SIGTERM with half-sent requests, during start-up, and twice",
    "exits in time, with status 0 (before our first line with the signal's)",
)
def awkward_stops(arena: Arena) -> None:
    with arena.serve(command=IMPATIENT) as server, ExitStack() as stack:
        for half in HALVES:
            stack.enter_context(open_with(server, half))
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(IMPATIENT_S + 5) == 0
    for workers in (1, 2):
        with arena.serve(drain_s=60, workers=workers) as server:
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            assert server.process.poll() is None
            for pid in children(server) if workers > 1 else [server.process.pid]:
                os.kill(pid, signal.SIGTERM)
            assert server.process.wait(15) == 0
    environment = {**os.environ, "CTR_ARTIFACTS": str(arena.artifacts), "CTR_PORT": "0"}
    for delay_s in (0.05, 0.3, 0.6):
        process = subprocess.Popen([sys.executable, "-m", "app"], env=environment, stderr=subprocess.DEVNULL)
        time.sleep(delay_s)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, -signal.SIGTERM)  # before Python has come to our first line it is the system's
        arena.tally.note(200, 200, 0.0)


@fault(
    "D7",
    "SIGHUP to a service of two workers under load",
    "the workers are replaced one after the other; no error, the same answers",
)
def rolling_restart(arena: Arena) -> None:
    with arena.serve(workers=2, drain_s=1) as server:
        until(lambda: len(children(server)) == 2, "two workers")
        before = set(children(server))
        with arena.load(server, 200, num_threads=4):
            time.sleep(0.3)
            server.process.send_signal(signal.SIGHUP)
            took = until(
                lambda: len(set(children(server)) - before) == 2 and len(children(server)) == 2, "new workers", 60
            )
            time.sleep(0.3)
        arena.tally.notes.append(f"both replaced after {took:.1f} s")


@fault(
    "D8",
    "a worker killed by SIGKILL, then one frozen by SIGSTOP",
    "the other serves; a new one takes its place, for a frozen one after five seconds; metrics continue",
)
def killed_worker(arena: Arena) -> None:
    with arena.serve(workers=2) as server:
        until(lambda: len(children(server)) == 2, "two workers")
        arena.ask(server)
        before = server.metric("ctr_rows_total")
        url = str(server.client.base_url)
        for number in (signal.SIGKILL, signal.SIGSTOP):
            first = children(server)[0]
            os.kill(first, number)
            if number == signal.SIGSTOP:
                for _ in range(20):
                    arena.tally.note(200 if is_up(url) else 0, 200, 0.0)
            took = until(lambda first=first: len(set(children(server)) - {first}) == 2, "a new worker")  # type: ignore[misc]
            until(lambda: all(is_up(url) for _ in range(6)), "answers")
            arena.tally.notes.append(f"{number.name}: replaced after {took:.1f} s")
        with httpx.Client(base_url=url, timeout=10) as client:  # the one that was kept may have been the lost worker's
            for i, body in enumerate(arena.bodies[:12]):
                answer = client.post("/predict", content=body, headers=JSON)
                is_right = arena.answers.is_right(i, answer.content)
                arena.tally.note(answer.status_code, 200, answer.elapsed.total_seconds(), is_right)
            metrics = client.get("/metrics").text
        total = sum(float(line.split()[1]) for line in metrics.splitlines() if line.startswith("ctr_rows_total "))
        assert total >= before


@fault(
    "D10",
    "the log's reader is gone or does not read; the disk is full",
    "serving continues; log lines are dropped, and the next one says how many; a catalog is refused as a whole",
)
def blocked_log(arena: Arena) -> None:
    for kind in ("closed", "blocked", "full"):
        reader, writer = os.pipe()
        if kind == "full":
            os.close(writer)
            writer = os.open("/dev/full", os.O_WRONLY)
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        listener.close()
        environment = {**os.environ, "CTR_ARTIFACTS": str(arena.artifacts), "CTR_PORT": str(port), "CTR_DRAIN_S": "0"}
        process = subprocess.Popen([sys.executable, "-m", "app"], env=environment, stdout=writer, stderr=writer)
        if kind == "blocked":  # it is as good as full: what is written from now on would wait for ever
            os.set_blocking(writer, False)
            try:
                while os.write(writer, b"." * 4096):
                    pass
            except BlockingIOError:
                os.set_blocking(writer, True)
        os.close(writer)
        try:
            url = f"http://127.0.0.1:{port}"
            until(lambda url=url: is_up(url), "up")  # type: ignore[misc]
            if kind == "closed":
                os.close(reader)
            with httpx.Client(base_url=url, headers=JSON, timeout=5) as client:
                for n in range(60):
                    bad = client.post("/predict", content=b"{", headers={"traceparent": f"00-{n + 1:032x}-{1:016x}-01"})
                    arena.tally.note(bad.status_code, 422, bad.elapsed.total_seconds())
                    good = client.post("/predict", content=arena.bodies[n % 24])
                    right = arena.answers.is_right(n % 24, good.content)
                    arena.tally.note(good.status_code, 200, good.elapsed.total_seconds(), right)
        finally:
            process.terminate()
            assert process.wait(15) == 0
            if kind != "closed":
                os.close(reader)
    full_disk(arena)


def full_disk(arena: Arena) -> None:
    """Let no file grow, the log's neither, put a catalog; then let them again."""
    catalog = arena.directory / "full" / "catalog.json"
    catalog.parent.mkdir()
    with arena.serve(catalog=catalog) as server:
        pid = server.process.pid
        for content, room, status in ((b'{"items": {}}', 1 << 30, 200), (b'{"items": {"a": {}}}', 0, 507)):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
            answer = server.client.put("/catalog", content=content, headers=JSON)
            arena.tally.note(answer.status_code, status, answer.elapsed.total_seconds())
        assert [path.name for path in catalog.parent.iterdir()] == ["catalog.json"]
        assert catalog.read_bytes() == b'{"items": {}}'
        for i in range(12):
            arena.ask(server, i)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        answer = server.client.put("/catalog", content=b'{"items": {"a": {}}}', headers=JSON)
        arena.tally.note(answer.status_code, 200, answer.elapsed.total_seconds())
        answer = server.client.post("/predict", content=b"{", headers=JSON)
        arena.tally.note(answer.status_code, 422, answer.elapsed.total_seconds())
        until(lambda: '"dropped":' in server.log.read_text(), "lines counted")


@fault(
    "D11", "no file descriptors left", "new connections wait or fail; the service recovers when descriptors are free"
)
def no_descriptors(arena: Arena) -> None:
    with arena.serve() as server:
        pid = server.process.pid
        used = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        limit = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 8, limit[1]))
        address = (server.client.base_url.host, server.client.base_url.port or 0)
        connections = [socket.create_connection(address, 5) for _ in range(40)]
        time.sleep(0.5)
        for connection in connections:
            connection.close()
        took = until(lambda: is_up(str(server.client.base_url), timeout_s=2), "recovers")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limit)
        for i in range(12):
            arena.ask(server, i)
        arena.tally.notes.append(f"recovered after {took:.1f} s")


@fault("D12", "the clock jumps", "no time limit depends on it: the service does not read the wall clock")
def clock(arena: Arena) -> None:
    for path in (Path(__file__).parents[2] / "app").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) not in {("time", "time"), ("datetime", "now")}, path
    arena.tally.note(200, 200, 0.0)


@fault(
    "D13",
    "a port that is taken, a bad or unknown setting, an unreadable key file",
    "does not start; one clear line, status 2 or 3",
)
def bad_starts(arena: Arena) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        quota = arena.directory / "keys"
        quota.write_text("a predict " + "0" * 64 + " 0")
        faults = {
            "address already in use": {"CTR_PORT": str(taken.getsockname()[1])},
            "CTR_PORT: Input": {"CTR_PORT": "many"},
            "PROT": {"CTR_PROT": "80"},
            "No such file": {"CTR_KEYS": "/nowhere/keys"},
            "quota of 0": {"CTR_KEYS": str(quota)},
            "CTR_ALLOW_ANONYMOUS": {"CTR_HOST": "0.0.0.0"},
        }
        environment = os.environ | {"CTR_ARTIFACTS": str(arena.artifacts), "CTR_PORT": "0", "CTR_DRAIN_S": "0"}
        command = [sys.executable, "-m", "app"]
        starting = {
            said: subprocess.Popen(command, env=environment | changes, stderr=subprocess.PIPE, text=True)
            for said, changes in faults.items()
        }
        for said, process in starting.items():
            with process:
                _, written = process.communicate(timeout=60)
            assert process.returncode in (2, 3), (said, process.returncode, written)
            assert said in written, (said, written)
            assert written.count("\n") == 1 or process.returncode == 3, written
            assert "Traceback" not in written, written
            arena.tally.note(200, 200, 0.0)


def is_up(url: str, timeout_s: float = 10) -> bool:
    """Whether a new connection is answered by a process that has a model."""
    try:
        return httpx.get(f"{url}/health/ready", timeout=timeout_s).status_code == 200
    except httpx.TransportError:
        return False
