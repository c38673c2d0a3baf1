"""What ranking needs of one model version: the scorers of both sides, and the activations of the catalog's candidates.

Those are computed once per catalog and model version, so that ranking adds, not multiplies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.problems import Problem
from app.scoring.catalog import Catalog
from app.wire.rank_request import RankWire
from models.artifact.artifact import Artifact
from models.network.head import SideActivations
from models.network.side_activations import SideScorer

try:
    from models._native import NameIndex
except ImportError:  # built without a compiler
    NameIndex = None  # type: ignore[assignment,misc]

CHUNK = 256
"""Candidates whose activations are computed at once, a fraction of a millisecond: meanwhile no other thread runs."""


class CatalogActivations:
    """The candidates of a catalog, ready to be added to contexts of one model version.

    Args:
        items: fields of each candidate by id.
        artifact: the model version.
        wire: brings items into columns.
        scorer: of the candidate side.
    """

    def __init__(
        self, items: Mapping[str, Mapping[str, Any]], artifact: Artifact, wire: RankWire, scorer: SideScorer
    ) -> None:
        self._num_items = len(items)
        self._find = finder(list(items))
        rows, parts = list(items.values()), []
        for start in range(0, len(rows), CHUNK):
            batch = scorer.encoder.encode(wire.candidate_columns(rows[start : start + CHUNK]))
            parts.append(scorer.activations(batch, artifact.table.take(batch.ids, axis=0)))
        self.activations = SideActivations(
            np.concatenate([part.product for part in parts]) if parts else np.empty((0, 0), np.float32),
            np.concatenate([part.squares for part in parts]) if parts else np.empty(0, np.float32),
        )

    def __len__(self) -> int:
        """Return the number of candidates."""
        return self._num_items

    def find(self, ids: list[str]) -> NDArray[np.int64]:
        """Return the candidates' places among `activations`, int64 [n]; -1 for those that are not there."""
        return self._find(ids)


def finder(names: list[str]) -> Callable[[list[str]], NDArray[np.int64]]:
    """Return what finds the places of strings among ``names``, int64 [n]; -1 for those that are not there.

    Compiled where there is a compiler: of a request of 1,000 out of 100,000 ids a dictionary takes a fifth of the time.
    """
    if NameIndex is None:
        places = {name: place for place, name in enumerate(names)}
        return lambda ids: np.fromiter(map(places.get, ids, repeat(-1)), np.int64, len(ids))
    find = NameIndex(names).find
    return lambda ids: np.frombuffer(find(ids), np.int64)


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
        self._catalog: Catalog | None = None
        self._known: CatalogActivations | None = None
        self._problem = Problem("no_catalog")

    def known(self) -> CatalogActivations:
        """Return the activations of the last catalog that fitted the model.

        Raises:
            Problem: ``no_catalog``, or what `prepare` raised.
        """
        if self._known is None:
            raise Problem(self._problem.code, self._problem.detail)
        return self._known

    def is_prepared(self, catalog: Catalog | None) -> bool:
        """Return whether `prepare` has seen this catalog."""
        return catalog is None or catalog is self._catalog

    def prepare(self, catalog: Catalog) -> CatalogActivations:
        """Return the activations of a catalog, computed on first sight; until they are, `known` returns those before.

        Raises:
            Problem: ``invalid_input`` or ``not_rankable``.
        """
        if self._known is None or catalog is not self._catalog:
            try:
                items = self.wire.parse_catalog(catalog.body)
            except Problem as problem:
                self._catalog, self._problem = catalog, Problem(problem.code, problem.detail)
                raise
            self._known = CatalogActivations(items, self._artifact, self.wire, self.candidate)
            self._catalog = catalog
        return self._known

    def forget(self) -> None:
        """Drop the activations, which are large; `prepare` computes them again."""
        self._catalog = self._known = None
