"""What ranking needs of one model version: both sides' scorers, and the catalog's halves once they are known."""

from __future__ import annotations

from app.problems import Problem
from app.scoring.catalog import Catalog, CatalogHalves
from app.wire.rank_request import RankWire
from models.artifact.artifact import Artifact
from models.network.side_activations import SideScorer


class Ranker:
    """What ranking needs of one model version.

    Args:
        artifact: the model version.
        max_rows: most candidates in one request.
    """

    def __init__(self, artifact: Artifact, max_rows: int) -> None:
        self.wire = RankWire(artifact.schema, max_rows)
        self._artifact = artifact
        encoder, head = artifact.encoder, artifact.predictor.head
        self.context, self.candidate = (SideScorer(encoder, head, side) for side in ("context", "candidate"))
        self._prepared: tuple[Catalog, CatalogHalves] | None = None

    def forget(self) -> None:
        """Let go of the catalog's halves, which are large; they are computed again when they are asked for."""
        self._prepared = None

    def prepare(self, catalog: Catalog | None) -> CatalogHalves:
        """Return the halves of a catalog, computed on first sight.

        Raises:
            Problem: ``no_catalog``, ``invalid_input`` or ``not_rankable``.
        """
        if catalog is None:
            raise Problem("no_catalog")
        if self._prepared is None or self._prepared[0] is not catalog:
            items = self.wire.parse_catalog(catalog.body)
            self._prepared = (catalog, CatalogHalves(items, self._artifact, self.wire, self.candidate))
        return self._prepared[1]
