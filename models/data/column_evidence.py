"""Decides what a log's column holds, by its name and by how well it predicts the label.

Integers can be ids or quantities. If the column's name does not say which, the label decides: both readings predict the
labels of one half of a sample from the other half, and the better one is taken. A column that predicts the label almost
perfectly was written when the label was known, so no request would have it.
"""

from __future__ import annotations

import re
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
ID_WORDS = frozenset({
    "id", "ids", "code", "type", "cat", "category", "hash", "user", "item", "brand", "seller", "shop", "author", "ad", "adgroup",
    "advertiser", "app", "artist", "banner", "campaign", "city", "country", "creative", "genre", "ip", "movie", "news", "page",
    "product", "publisher", "query", "region", "site", "slot", "song", "store", "tag", "video", "zone",
})  # fmt: skip
QUANTITY_WORDS = frozenset({
    "price", "bid", "cost", "amount", "count", "cnt", "num", "number", "age", "score", "rate", "ratio", "rank", "duration",
    "length", "size", "width", "height", "seconds", "sec", "ms", "days", "hours", "views", "avg",
})  # fmt: skip
NOT_AN_ID = re.compile(r"(b|pa|prepa|val|inval|gr|av|rap|hybr|flu|sol)id")
"""Words that end in "id" and do not name an id."""
NUM_BINS = 32
PRIOR_ROWS = 20.0
SURE = 2.0
"""Standard errors by which ids have to predict better than quantities."""
PREDICTS = 0.05
"""Share of the label's entropy below which a column counts as written when the label was known."""
MAX_BASE_RATE = 0.9
ONLY = 0.995
"""Click rate from which a value counts as one that only clicks have."""
CHANCE = 1e-10
"""Probability of such rows below which they are no chance."""
MIN_CLICKS = 20
"""Clicks and non-clicks that each half of the sample must have for any conclusion."""


def words_of(name: str) -> set[str]:
    """Split a column name into words in lower case.

    >>> sorted(words_of("userId")), sorted(words_of("ad_category_2")), sorted(words_of("URLHash"))
    (['id', 'user'], ['ad', 'category'], ['hash', 'url'])
    """
    return {word.lower() for word in WORDS.findall(name)}


def meaning_by_name(name: str) -> Literal["id", "quantity"] | None:
    """Return what the integers of a column are, by the column's name; ``None`` if it does not say.

    >>> [meaning_by_name(name) for name in ("movieid", "adgroup_id", "bid", "item_price", "user", "x3")]
    ['id', 'id', 'quantity', 'quantity', 'id', None]
    """
    words = words_of(name)
    if words & QUANTITY_WORDS:
        return "quantity"
    if words & ID_WORDS or any(word.endswith("id") and not NOT_AN_ID.fullmatch(word) for word in words):
        return "id"
    return None


def is_row_number(series: pl.Series) -> bool:
    """Whether whole numbers count the rows: all differ, and they rise row by row or are dense."""
    known = series.drop_nulls()
    if not series.dtype.is_integer() or len(known) < max(3, len(series)) or known.n_unique() < len(known):
        return False
    span = int(known.max()) - int(known.min()) + 1  # type: ignore[arg-type]
    return bool((known.diff().drop_nulls() > 0).all()) or span <= 1.1 * len(known)


class Evidence:
    """How well columns of a sample predict its labels: click rates from one half of the rows are tested on the other.

    Args:
        labels: 0 or 1, one for each row of the sample.
    """

    def __init__(self, labels: pl.Series) -> None:
        self._clicks = labels.to_numpy().astype(np.float64)
        self._is_fit = np.random.default_rng(0).random(len(labels)) < 0.5
        halves = [self._clicks[half] for half in (self._is_fit, ~self._is_fit)]
        self._is_enough = all(min(half.sum(), len(half) - half.sum()) >= MIN_CLICKS for half in halves)
        self._base = (
            _log_loss(halves[1], np.full(len(halves[1]), halves[0].mean())) if self._is_enough else np.array([])
        )

    def are_ids(self, series: pl.Series) -> bool:
        """Whether a column's numbers predict the label better as ids than as quantities, by more than the sampling error."""
        if not self._is_enough:
            return False
        gain = self._losses(_bins(series)) - self._losses(_codes(series))
        return bool(gain.mean() > SURE * gain.std() / np.sqrt(len(gain)))

    def predicts_the_label(self, series: pl.Series) -> bool:
        """Whether a column predicts the label almost perfectly."""
        if not self._is_enough:
            return False
        readings = [_codes(series), *([_bins(series)] if series.dtype.is_numeric() else [])]
        return bool(min(self._losses(codes, 1.0).mean() for codes in readings) < PREDICTS * self._base.mean())

    def leak_of(self, series: pl.Series) -> str | None:
        """Return what a column holds only in rows with a click, in words: it was written after the click; else ``None``.

        A single one of many values may well have clicks only; that all but the most frequent one have them tells.
        """
        if not self._is_enough or self._clicks.mean() > MAX_BASE_RATE:
            return None
        groups = [("a value where others have none", series.is_not_null())] if series.null_count() else []
        known = series.drop_nulls()
        if len(known) and not series.dtype.is_nested():
            most = known.mode().sort()[0]
            groups.append((f"another value than {most!r}", series != most))
        for what, is_held in groups:
            held = is_held.fill_null(value=False).to_numpy()
            halves = [self._clicks[held & half] for half in (self._is_fit, ~self._is_fit)]
            num_rows = sum(map(len, halves))
            is_chance = num_rows * np.log(self._clicks.mean()) > np.log(CHANCE)
            if min(map(len, halves)) >= MIN_CLICKS // 2 and not is_chance and min(h.mean() for h in halves) >= ONLY:
                return what
        return None

    def _losses(self, codes: NDArray[np.int64], prior_rows: float = PRIOR_ROWS) -> NDArray[np.float64]:
        """Return the log loss of each row of the second half, float64, from the click rates of the first half's codes."""
        is_fit, clicks = self._is_fit, self._clicks
        size = int(codes.max()) + 1
        shown = np.bincount(codes[is_fit], minlength=size)
        clicked = np.bincount(codes[is_fit], weights=clicks[is_fit], minlength=size)
        rates = (clicked + prior_rows * clicks[is_fit].mean()) / (shown + prior_rows)
        return _log_loss(clicks[~is_fit], rates[codes[~is_fit]])


def _log_loss(clicks: NDArray[np.float64], p: NDArray[np.float64]) -> NDArray[np.float64]:
    losses: NDArray[np.float64] = -np.log(np.maximum(np.where(clicks == 1, p, 1 - p), 1e-12))
    return losses


def _codes(series: pl.Series) -> NDArray[np.int64]:
    """Return an integer for each distinct value; null is one of them."""
    return series.rank("dense").fill_null(0).to_numpy().astype(np.int64)


def _bins(series: pl.Series) -> NDArray[np.int64]:
    """Return the quantile bin of each value; nulls have a bin of their own."""
    values = series.cast(pl.Float64).to_numpy()
    is_there = np.isfinite(values)
    if not is_there.any():
        return np.zeros(len(values), np.int64)
    edges = np.unique(np.quantile(values[is_there], np.linspace(0, 1, NUM_BINS + 1)[1:-1]))
    return np.where(is_there, np.searchsorted(edges, values) + 1, 0)
