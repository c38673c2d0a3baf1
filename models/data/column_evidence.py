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
TIME_WORDS = frozenset({"time", "timestamp", "ts", "datetime", "date", "stamp", "hour", "day", "dt"})
NOT_AN_ID = re.compile(r"(b|pa|prepa|val|inval|gr|av|rap|hybr|flu|sol)id")
"""Words that end in "id" and do not name an id."""
EPOCHS = [(946_684_800 * unit, 4_102_444_800 * unit) for unit in (1, 1_000, 1_000_000)]
"""Unix times from 2000 to 2100, in seconds, milliseconds and microseconds."""
DATE_FORMATS = {
    8: (("%y%m%d%H%M", "00"), ("%Y%m%d", "")),
    10: (("%Y%m%d%H%M", "00"),),
    12: (("%Y%m%d%H%M", ""),),
    14: (("%Y%m%d%H%M%S", ""),),
}
"""By the number of digits: formats of dates written as numbers, and the digits to append before parsing."""
NUM_BINS = 32
PRIOR_ROWS = 20.0
SURE = 2.0
"""Standard errors by which ids have to predict better than quantities."""
PREDICTS = 0.05
"""Share of the label's entropy below which a column counts as written when the label was known."""
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


def is_moment(series: pl.Series) -> bool:
    """Whether a column without nulls holds dates or times: its name must suggest it, and its values must be or parse as some."""
    if not words_of(series.name) & TIME_WORDS or not len(series):
        return False
    if series.dtype.is_temporal():
        return True
    if series.dtype == pl.String:
        try:
            return series.str.to_datetime(strict=False, ambiguous="earliest").null_count() == 0
        except pl.exceptions.ComputeError:  # no format fits the first value
            return False
    if not series.dtype.is_numeric() or not bool((series == series.round()).all()):
        return False
    low, high = float(series.min()), float(series.max())  # type: ignore[arg-type]
    if any(start <= low and high <= end for start, end in EPOCHS):
        return True
    texts = series.unique().cast(pl.Int64).cast(pl.String)
    formats = DATE_FORMATS.get(len(str(int(high))), ())
    return any((texts + rest).str.to_datetime(written, strict=False).null_count() == 0 for written, rest in formats)


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
