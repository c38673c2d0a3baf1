"""Documentation that would rot is compared with the code."""

import ast
import re
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import cast, get_args

import pytest
from fastapi.routing import APIRoute

from app.http import admin_routes, open_inference, routes
from app.http.error_answers import PROBLEMS
from app.observability.metrics import Telemetry
from app.settings import Settings
from ctrserve.__main__ import main
from models.artifact.manifest import FILES, OPTIONAL_FILES
from models.errors import ArtifactReason
from models.train import main as train

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def first_column(page: str, heading: str) -> list[str]:
    """Return the code in the first cell of each row of the first table after a heading."""
    section = read(page).split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^\| `([^`]+)`", section, flags=re.MULTILINE)


def version_in_pyproject() -> str:
    return str(tomllib.loads(read("pyproject.toml"))["project"]["version"])


def test_the_readme_lists_every_setting() -> None:
    assert first_column("README.md", "Settings") == [f"CTR_{name.upper()}" for name in Settings.model_fields]


def test_the_readme_gives_every_settings_default() -> None:
    section = read("README.md").split("\n## Settings\n", 1)[1]
    for name, info in Settings.model_fields.items():
        (row,) = [line for line in section.splitlines() if line.startswith(f"| `CTR_{name.upper()}`")]
        default = "" if info.default is None else str(info.default).lower()
        assert row.split("|")[2].strip().strip("`") == default, row


def test_the_readmes_options_of_training_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert train(["--help"]) == 0
    known = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out))
    section = read("README.md").split("\n## Your own log\n", 1)[1].split("\n## ", 1)[0]
    named = set(re.findall(r"--[a-z][a-z-]*", section))
    assert {"--data", "--schema"} < named
    assert named <= known


def test_the_readmes_python_is_python() -> None:
    snippets = re.findall(r"^```python\n(.*?)^```", read("README.md"), re.DOTALL | re.MULTILINE)
    assert snippets
    for snippet in snippets:
        ast.parse(snippet)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_modules_that_a_page_runs_exist(page: Path) -> None:
    modules = set(re.findall(r"python -m ([\w.]+\w)", page.read_text(encoding="utf-8")))
    assert [name for name in modules if find_spec(name) is None] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_make_targets_that_a_page_names_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE))
    text = page.read_text(encoding="utf-8")
    assert set(re.findall(r"(?:`|^    )make ([a-z]+)", text, re.MULTILINE)) <= targets


def test_operations_lists_every_metric() -> None:
    names = [metric.name for metric in Telemetry().registry.collect()]
    assert first_column("docs/operations.md", "Metrics") == names


def test_operations_lists_every_path() -> None:
    routers = (routes.router, routes.metrics_router, admin_routes.router, open_inference.router)
    all_routes = [cast(APIRoute, route) for router in routers for route in router.routes]
    found = {(method, route.path) for route in all_routes for method in route.methods or ()}
    scored = {("POST", "/predict"), ("POST", "/rank"), ("POST", "/explain")}
    pages = {("GET", "/docs"), ("GET", "/openapi.json")}
    documented = [tuple(name.split()) for name in first_column("docs/operations.md", "Paths")]
    assert sorted(documented) == sorted(found | scored | pages)


def test_operations_lists_every_problem_code() -> None:
    assert first_column("docs/operations.md", "Answers that are not a success") == list(PROBLEMS)


def test_the_artifact_page_lists_every_reason_and_file() -> None:
    page = read("docs/artifact.md")
    assert sorted(first_column("docs/artifact.md", "What loading checks, in order")) == sorted(get_args(ArtifactReason))
    assert all(name in page for name in (*FILES, *OPTIONAL_FILES))


@pytest.mark.parametrize("package", ["models", "app"])
def test_the_architecture_page_names_every_room_and_no_other(package: str) -> None:
    folders = {p.parent.name for p in (ROOT / package).glob("*/__init__.py")}
    modules = {p.name for p in (ROOT / package).glob("*.py")} - {"__init__.py"}
    native = {"native"} if package == "models" else set()
    assert set(first_column("docs/architecture.md", f"Rooms of `{package}`, in the order of imports")) == (
        folders | modules | native
    )


def test_the_drawing_has_every_room_of_the_two_flows() -> None:
    drawing = read("docs/architecture.md").split("```mermaid\n", 1)[1].split("```", 1)[0]
    rooms = {name for name, label in re.findall(r"\b(\w+)\[(\w+)\]", drawing) if name == label}
    folders = {p.parent.name for package in ("app", "models") for p in (ROOT / package).glob("*/__init__.py")}
    assert rooms == folders - {"command_line", "observability", "demo", "pipeline", "simulator"}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_files_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"`((?:app|models|tests|benchmarks|docs|examples)/[\w./-]+)`", text)
    linked = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    gone = [name for name in named if not (ROOT / name).exists()]
    assert gone + [name for name in linked if not (page.parent / name).exists()] == []


def test_decisions_are_few_short_and_numbered() -> None:
    records = read("docs/decisions.md").split("\n## ")[1:]
    assert len(records) <= 20
    for number, record in enumerate(records, 1):
        title, body = record.split("\n", 1)
        assert title.startswith(f"{number}. ")
        assert re.match(r"\n\*20\d\d-\d\d-\d\d.*\*\n", body), f"{title} has no date"
        assert "**Decision.**" in body, title
        assert len(body.splitlines()) <= 35, title


def test_the_changelog_has_the_version_of_pyproject_below_what_is_not_released() -> None:
    versions = re.findall(r"^## \[([^\]]+)\]", read("CHANGELOG.md"), re.MULTILINE)
    assert versions[:2] == ["Unreleased", version_in_pyproject()]


def test_the_version_stands_in_one_place() -> None:
    version = version_in_pyproject()
    sources = [p for package in ("app", "ctrserve", "models") for p in (ROOT / package).rglob("*.py")]
    assert not [p for p in sources if f'"{version}"' in p.read_text(encoding="utf-8")]


def test_the_command_says_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert re.fullmatch(r"ctrserve \d+\.\d+\.\d+\n", capsys.readouterr().out)
