"""The compose file and the Dockerfile keep what docs/security.md says of them."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"] > 0
    assert re.fullmatch(r"\d+[mg]|\$\{CTR_\w+:-\d+[mg]\}", service["mem_limit"])
    assert not {"privileged", "cap_add", "devices", "network_mode", "pid", "ipc"} & set(service)
    assert service.get("tmpfs"), "a read-only system needs a place for what is passing"
    assert not any(":/var/run" in volume or volume.startswith("/") for volume in service.get("volumes", []))


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_runs_as_root(name: str) -> None:
    service = SERVICES[name]
    if "build" not in service:
        assert service["user"] == "10001:10001"
        return
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    stages = dict(re.findall(r"^FROM \S+ AS (\S+)\n((?:(?!FROM ).*\n)*)", dockerfile, re.MULTILINE))
    assert re.findall(r"^USER (.+)$", stages["runtime"], re.MULTILINE) == ["10001"]
    stage = service["build"]["target"]
    assert f"FROM runtime AS {stage}\n" in dockerfile
    assert "USER" not in stages[stage]
    assert "user" not in service


def test_redis_is_on_an_internal_network_alone_and_the_api_is_published_on_this_machine_alone() -> None:
    internal = {name for name, network in COMPOSE["networks"].items() if network.get("internal")}
    assert set(SERVICES["redis"]["networks"]) <= internal
    assert {name: service["ports"] for name, service in SERVICES.items() if "ports" in service} == {
        "api": ["127.0.0.1:${CTR_PORT:-8000}:8000"]
    }
    assert SERVICES["api"]["volumes"] == ["artifacts:/artifacts:ro"]


def test_redis_keeps_nothing_on_disk_and_has_less_memory_than_its_container() -> None:
    command = SERVICES["redis"]["command"]
    options = dict(zip(command[::2], command[1::2], strict=True))
    assert (options["--save"], options["--appendonly"], options["--maxmemory-policy"]) == ("", "no", "allkeys-lru")
    assert int(options["--maxmemory"].removesuffix("mb")) <= int(SERVICES["redis"]["mem_limit"].removesuffix("m")) / 2
