"""Shared by all tests: one thread, as a worker has, and an environment without the developer's own settings."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy is there

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from models.artifact.artifact import Artifact, load_artifact
from tests.making import make_artifact

# The machine's load must not decide a test.
settings.register_profile("ctrserve", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.load_profile("ctrserve")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith("CTR_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of artifacts with one small one, for the tests of a file."""
    root = tmp_path_factory.mktemp("artifacts")
    make_artifact(root)
    return root


@pytest.fixture(scope="module")
def artifact(artifacts: Path) -> Artifact:
    """The small artifact, loaded."""
    return load_artifact(artifacts / "v1")
