"""Documentation that would rot is compared with the code."""

import re
from pathlib import Path
from typing import get_args

from app.observability.metrics import Telemetry
from app.problems import PROBLEMS
from app.settings import Settings
from models.artifact.manifest import FILES
from models.errors import ArtifactReason

ROOT = Path(__file__).parents[1]


def first_column(page: str, heading: str) -> list[str]:
    """Return the code in the first cell of each row of the first table after a heading."""
    section = (ROOT / page).read_text(encoding="utf-8").split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^\| `([^`]+)`", section, flags=re.MULTILINE)


def test_the_readme_lists_every_setting() -> None:
    assert first_column("README.md", "Settings") == [f"CTR_{name.upper()}" for name in Settings.model_fields]


def test_the_readme_gives_every_settings_default() -> None:
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## Settings\n", 1)[1]
    for name, info in Settings.model_fields.items():
        (row,) = [line for line in section.splitlines() if line.startswith(f"| `CTR_{name.upper()}`")]
        default = "" if info.default is None else str(info.default).lower()
        assert row.split("|")[2].strip().strip("`") == default, row


def test_operations_lists_every_metric() -> None:
    names = [metric.name for metric in Telemetry().registry.collect()]
    assert first_column("docs/operations.md", "Metrics") == names


def test_operations_lists_every_problem_code() -> None:
    assert first_column("docs/operations.md", "Answers that are not a success") == list(PROBLEMS)


def test_the_artifact_page_lists_every_reason_and_file() -> None:
    page = (ROOT / "docs/artifact.md").read_text(encoding="utf-8")
    assert sorted(first_column("docs/artifact.md", "What loading checks, in order")) == sorted(get_args(ArtifactReason))
    assert all(name in page for name in FILES)
