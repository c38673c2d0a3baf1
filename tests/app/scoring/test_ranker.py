"""The activations of catalogs: computed beside the requests, which use those before until the new ones are there."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.problems import Problem
from app.scoring import ranker as ranker_module
from app.scoring.catalog import Catalog
from app.scoring.ranker import CatalogActivations, Ranker
from app.wire.rank_request import RankWire
from models.artifact.artifact import load_artifact

SMALL, LARGE = (
    Catalog(json.dumps({"items": {f"c{i}": {"ad_id": f"ad{i}"} for i in range(n)}}).encode()) for n in (2, 700)
)
MISFIT = Catalog(b'{"items": {"c0": {"ad_id": []}}}')


@pytest.fixture
def ranker(artifacts: Path) -> Ranker:
    artifact = load_artifact(artifacts / "v1")
    return Ranker(artifact, RankWire(artifact.schema, artifact.encoder, 2_048))


def test_requests_use_the_catalog_before_while_the_next_is_computed(
    ranker: Ranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_begun, may_end = threading.Event(), threading.Event()

    def compute(*arguments: object) -> CatalogActivations:
        has_begun.set()
        assert may_end.wait(30)
        return CatalogActivations(*arguments)  # type: ignore[arg-type]

    with pytest.raises(Problem) as refused:
        ranker.known()
    assert refused.value.code == "no_catalog"
    small = ranker.prepare(SMALL)
    assert (len(small), ranker.known(), ranker.prepare(SMALL)) == (2, small, small)
    monkeypatch.setattr(ranker_module, "CatalogActivations", compute)
    with ThreadPoolExecutor(1) as pool:
        preparing = pool.submit(ranker.prepare, LARGE)
        assert has_begun.wait(30)
        assert (ranker.known(), ranker.is_prepared(LARGE)) == (small, False)
        may_end.set()
        assert len(preparing.result()) == 700
    assert (len(ranker.known()), ranker.is_prepared(LARGE)) == (700, True)


def test_a_catalog_that_does_not_fit_the_model_is_looked_at_once_and_the_one_before_stays(ranker: Ranker) -> None:
    def refuse() -> None:
        with pytest.raises(Problem) as refused:
            ranker.prepare(MISFIT)
        assert (refused.value.code, ranker.is_prepared(MISFIT)) == ("invalid_input", True)

    refuse()
    with pytest.raises(Problem) as refused:
        ranker.known()
    assert refused.value.code == "invalid_input"
    small = ranker.prepare(SMALL)
    refuse()
    assert ranker.known() is small
    ranker.forget()
    assert not ranker.is_prepared(SMALL)
