"""One server process for the whole corpus, so that what one request breaks shows in those after it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.making import make_artifact
from tests.server import Server, serving


@pytest.fixture(scope="session")
def hostile_artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hostile")
    make_artifact(root)
    return root


@pytest.fixture(scope="session")
def server(hostile_artifacts: Path) -> Iterator[Server]:
    with serving(hostile_artifacts, catalog=hostile_artifacts / "catalog.json") as running:
        yield running
