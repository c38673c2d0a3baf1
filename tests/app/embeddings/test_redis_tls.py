"""Redis behind TLS and a user of its own: same bytes, no word of the password; whatever does not fit is left alone."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import orjson
import pytest

from tests.faults.redis_watching import LATE_S, lookups, redis_state
from tests.making import make_log, request_columns
from tests.redis_server import REDIS, RedisServer, running_redis
from tests.server import Server, serving

pytestmark = [
    pytest.mark.skipif(REDIS is None, reason="redis-server not installed"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl not installed"),
]

RULES = "~ctr:* -@all +mget +set"
"""What docs/security.md says."""
PASSWORD = "p@ss/w:rd?"


@dataclass(frozen=True)
class Setup:
    """What Redis shows, and what the service expects of it."""

    rules: str = RULES
    hosts: str = "DNS:localhost,IP:127.0.0.1"
    days: int = 2
    signed_by: str = "ca"
    password: str = PASSWORD


REFUSED = {
    "another CA": (Setup(signed_by="other"), "CERTIFICATE_VERIFY_FAILED"),
    "another host": (Setup(hosts="DNS:redis.example"), "CERTIFICATE_VERIFY_FAILED"),
    "an expired certificate": (Setup(days=-1), "CERTIFICATE_VERIFY_FAILED"),
    "a wrong password": (Setup(password="p@ss/w:rd"), "Redis refuses us"),
    "a user that must not MGET": (Setup(rules="~ctr:* -@all +set"), "Redis refuses us"),
}


def openssl(directory: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True, timeout=30)


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("authorities")
    for name in ("ca", "other"):
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key"]
        openssl(directory, "req", "-x509", *key, "-out", f"{name}.pem", "-subj", f"/CN={name}", "-days", "2")
    return directory


@pytest.fixture(scope="module")
def bodies() -> list[bytes]:
    frame = make_log()
    return [orjson.dumps({"inputs": request_columns(frame[i * 7 : i * 7 + 1 + i % 5])}) for i in range(12)]


@pytest.fixture(scope="module")
def expected(artifacts: Path, bodies: list[bytes]) -> list[bytes]:
    with serving(artifacts) as alone:
        return ask_all(alone, bodies)


def ask_all(server: Server, bodies: list[bytes]) -> list[bytes]:
    answers = []
    for body in bodies:
        started = time.monotonic()
        answer = server.client.post("/predict", content=body, headers={"content-type": "application/json"})
        assert time.monotonic() - started < LATE_S
        assert answer.status_code == 200
        answers.append(answer.content)
    return answers


@contextmanager
def service(artifacts: Path, authorities: Path, directory: Path, setup: Setup) -> Iterator[tuple[Server, RedisServer]]:
    """Start Redis and a service that asks it for every row, by TLS alone: the default user is off."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "redis.key"]
    hosts = ["-subj", "/CN=redis", "-addext", f"subjectAltName={setup.hosts}"]
    openssl(directory, "req", "-new", *key, "-out", "redis.csr", *hosts)
    authority = authorities / setup.signed_by
    signing = ["-CA", f"{authority}.pem", "-CAkey", f"{authority}.key", "-CAserial", "serial", "-CAcreateserial"]
    signing += ["-copy_extensions", "copy", "-days", str(setup.days)]
    openssl(directory, "x509", "-req", "-in", "redis.csr", *signing, "-out", "redis.pem")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = f"--bind 127.0.0.1 --tls-port {port} --tls-auth-clients no --tls-ca-cert-file {authority}.pem".split()
    options += ["--tls-cert-file", str(directory / "redis.pem"), "--tls-key-file", str(directory / "redis.key")]
    options += ["--user", "default", "off", "--user", "ctr", "on", f">{PASSWORD}", *setup.rules.split()]
    url = f"rediss://ctr:{quote(setup.password, safe='')}@127.0.0.1:{port}/0?ssl_ca_certs={authorities}/ca.pem"
    with (
        running_redis(directory / "redis", Path(REDIS or ""), options) as redis,
        # Long enough for a handshake on a loaded machine.
        serving(artifacts, redis_url=url, redis_timeout_ms=500, hot_bytes=0) as server,
    ):
        yield server, redis


def check_secrecy(server: Server, redis: RedisServer, setup: Setup) -> None:
    said = [server.log.read_text(), redis.log]
    said += [server.client.get(path).text for path in ("/model", "/metrics", "/health/ready", "/openapi.json")]
    for secret in {setup.password, quote(setup.password, safe=""), quote(setup.password)}:
        assert not any(secret in text for text in said)


def test_rows_come_by_tls_with_the_least_of_rights_and_no_word_of_the_password(
    artifacts: Path, authorities: Path, tmp_path: Path, bodies: list[bytes], expected: list[bytes]
) -> None:
    with service(artifacts, authorities, tmp_path, Setup()) as (server, redis):

        def hits() -> bool:
            before = lookups(server, "hit")
            assert ask_all(server, bodies) == expected
            return lookups(server, "hit") > before

        server.wait_for(lambda: redis_state(server) == "ok")
        server.wait_for(hits)
        assert server.metric("ctr_redis_writes_total", outcome="error") == 0
        check_secrecy(server, redis, Setup())


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_said_once_and_left_alone(
    artifacts: Path, authorities: Path, tmp_path: Path, bodies: list[bytes], expected: list[bytes], name: str
) -> None:
    setup, reason = REFUSED[name]
    with service(artifacts, authorities, tmp_path, setup) as (server, redis):
        assert ask_all(server, bodies) == expected
        server.wait_for(lambda: redis_state(server) == "unavailable")
        assert ask_all(server, bodies) == expected
        assert server.metric("ctr_redis_breaker_open") == 1
        assert lookups(server, "hit") == 0
        server.wait_for(lambda: reason in server.log.read_text())
        assert server.log.read_text().count("Redis") <= 8
        check_secrecy(server, redis, setup)


def test_a_user_that_must_not_write_is_read_from(
    artifacts: Path, authorities: Path, tmp_path: Path, bodies: list[bytes], expected: list[bytes]
) -> None:
    setup = replace(Setup(), rules="~ctr:* -@all +mget")
    with service(artifacts, authorities, tmp_path, setup) as (server, redis):
        server.wait_for(lambda: redis_state(server) == "ok")
        assert ask_all(server, bodies) == expected
        server.wait_for(lambda: "Redis takes no writes (NoPermissionError" in server.log.read_text())
        assert ask_all(server, bodies) == expected
        assert redis_state(server) == "ok"
        assert lookups(server, "miss") > 0
        check_secrecy(server, redis, setup)
