"""Both wires of a small artifact."""

from __future__ import annotations

import pytest

from app.wire.predict_request import PredictWire
from app.wire.rank_request import RankWire
from models.artifact.artifact import Artifact, load_artifact
from tests.app.wire.comparing import MAX_ROWS
from tests.making import make_artifact


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return load_artifact(make_artifact(tmp_path_factory.mktemp("artifacts")))


@pytest.fixture(scope="module")
def predict(artifact: Artifact) -> PredictWire:
    return PredictWire(artifact.schema, artifact.encoder, MAX_ROWS)


@pytest.fixture(scope="module")
def rank(artifact: Artifact) -> RankWire:
    return RankWire(artifact.schema, artifact.encoder, MAX_ROWS)
