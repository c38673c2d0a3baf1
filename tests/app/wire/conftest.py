"""Both wires of a small artifact."""

from __future__ import annotations

import pytest

from app.wire.predict_request import PredictWire
from app.wire.rank_request import RankWire
from models.artifact.artifact import Artifact
from tests.app.wire.comparing import MAX_ROWS


@pytest.fixture(scope="module")
def predict(artifact: Artifact) -> PredictWire:
    return PredictWire(artifact.schema, artifact.encoder, MAX_ROWS)


@pytest.fixture(scope="module")
def rank(artifact: Artifact) -> RankWire:
    return RankWire(artifact.schema, artifact.encoder, MAX_ROWS)
