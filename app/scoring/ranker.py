"""What ranking needs of one model version: the scorers of both sides, and the catalog's activations once they are known."""

from __future__ import annotations

from app.problems import Problem
from app.scoring.catalog import Catalog, CatalogActivations
from app.wire.rank_request import RankWire
from models.artifact.artifact import Artifact
from models.network.side_activations import SideScorer


class Ranker:
    """What ranking needs of one model version.

    Args:
        artifact: the model version.
        wire: reads catalogs.
    """

    def __init__(self, artifact: Artifact, wire: RankWire) -> None:
        self.wire = wire
        self._artifact = artifact
        encoder, head = artifact.encoder, artifact.predictor.head
        self.context, self.candidate = (SideScorer(encoder, head, side) for side in ("context", "candidate"))
        self._prepared: tuple[Catalog, CatalogActivations | Problem] | None = None

    def forget(self) -> None:
        """Drop the catalog's activations, which are large; `prepare` computes them again."""
        self._prepared = None

    def is_prepared(self, catalog: Catalog | None) -> bool:
        """Return whether `prepare` has nothing to compute for this catalog."""
        prepared = self._prepared
        return catalog is None or (prepared is not None and prepared[0] is catalog)

    def prepare(self, catalog: Catalog | None) -> CatalogActivations:
        """Return the activations of a catalog, computed on first sight.

        Raises:
            Problem: ``no_catalog``, ``invalid_input`` or ``not_rankable``.
        """
        if catalog is None:
            raise Problem("no_catalog")
        prepared = self._prepared
        if prepared is None or prepared[0] is not catalog:
            found: CatalogActivations | Problem
            try:
                items = self.wire.parse_catalog(catalog.body)
                found = CatalogActivations(items, self._artifact, self.wire, self.candidate)
            except Problem as problem:
                found = problem.with_traceback(None)  # its frames hold the parsed catalog
            prepared = self._prepared = (catalog, found)
        if isinstance(prepared[1], Problem):
            raise prepared[1].with_traceback(None)
        return prepared[1]
