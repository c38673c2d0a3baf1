"""The conditions of a measurement, and the result files: ``results/<name>.json`` holds the newest run of a benchmark."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
SCHEMA_VERSION = 1
SEED = 7
PACKAGES = ("numpy", "pydantic", "pydantic-core", "fastapi", "starlette", "uvicorn", "uvloop", "httptools", "orjson")
# The processor flags that matter for the speed of a matrix product.
VECTOR_FLAGS = ("avx", "avx2", "fma", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16")


def conditions(seed: int = SEED, threads: int = 1) -> dict[str, Any]:
    """Return machine, versions, commit, date, seed and threads.

    Args:
        seed: of the random generators.
        threads: for mathematics in a measured process.
    """
    git = ["git", "-C", str(Path(__file__).parent)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    # A result that was just written does not count as a change.
    status = [*git, "status", "--porcelain", "--untracked-files=no", "--", ":/", ":!/benchmarks/results", ":!/docs"]
    dirty = subprocess.run(status, capture_output=True, text=True, check=False).stdout
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": head.strip() or "unknown",
        "dirty": bool(dirty.strip()),
        "command": " ".join(["python", *_shown(sys.orig_argv[1:])]),
        "seed": seed,
        "threads": threads,
        "machine": _machine(),
        "versions": {"python": platform.python_version(), **versions(PACKAGES)},
    }


def _shown(arguments: list[str]) -> list[str]:
    # Paths of the machine are not a condition.
    return ["DIR" if argument.startswith("/") else argument for argument in arguments]


def _machine() -> dict[str, Any]:
    described = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = re.search(r"^model name\s*: (.*)", described, re.MULTILINE)
    flags = set((re.search(r"^flags\s*: (.*)", described, re.MULTILINE) or ["", ""])[1].split())
    return {
        "cpu": model[1] if model else platform.processor(),
        "cores": os.cpu_count(),
        "flags": [flag for flag in VECTOR_FLAGS if flag in flags],
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()}",
        "load_average_before": round(os.getloadavg()[0], 2),
    }


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of the installed packages among these."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def versions_in(python: Path, packages: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of the packages that are installed in another environment."""
    code = (
        "import sys, json, importlib.metadata as m\nfound = {}\n"
        "for n in sys.argv[1:]:\n    try: found[n] = m.version(n)\n    except m.PackageNotFoundError: pass\n"
        "print(json.dumps(found))"
    )
    ran = subprocess.run([str(python), "-c", code, *packages], capture_output=True, text=True, check=False, timeout=60)
    found: dict[str, str] = json.loads(ran.stdout) if ran.returncode == 0 else {}
    return found


def save(name: str, found: Mapping[str, Any], results: Path = RESULTS) -> Path:
    """Write the result of a benchmark; return the file."""
    results.mkdir(exist_ok=True)
    path = results / f"{name}.json"
    temporary = path.with_suffix(".tmp")
    text = json.dumps({"schema_version": SCHEMA_VERSION, "benchmark": name, **found}, indent=1)
    temporary.write_text(text + "\n")
    temporary.replace(path)
    return path


def read(name: str, results: Path = RESULTS) -> dict[str, Any] | None:
    """Return the newest result of a benchmark; ``None`` if there is none or its schema version differs."""
    path = results / f"{name}.json"
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text())
    return found if found.get("schema_version") == SCHEMA_VERSION else None
