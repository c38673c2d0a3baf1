"""What a log's column is, by its name and by what it says of the label.

A whole number may be a quantity or a name. Where the column's own name does not tell, the label does: whichever reading
foretells the other half of the sample better. A column that foretells it perfectly was written with it.
"""

from __future__ import annotations

import re
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
ID_WORDS = {"id", "ids", "code", "type", "cat", "category", "hash", "user", "item", "brand", "seller", "shop", "author"}
ID_WORDS |= {
    "ad",
    "adgroup",
    "advertiser",
    "app",
    "artist",
    "banner",
    "campaign",
    "city",
    "country",
    "creative",
    "genre",
}
ID_WORDS |= {"ip", "movie", "news", "page", "product", "publisher", "query", "region", "site", "slot", "song", "store"}
ID_WORDS |= {"tag", "video", "zone"}
NO_ID = re.compile(r"(b|pa|prepa|val|inval|gr|av|rap|hybr|flu|sol)id")
"""Words that end as ids do and are none."""
QUANTITY_WORDS = {
    "price",
    "bid",
    "cost",
    "amount",
    "count",
    "cnt",
    "num",
    "number",
    "age",
    "score",
    "rate",
    "ratio",
    "rank",
}
QUANTITY_WORDS |= {
    "duration",
    "length",
    "size",
    "width",
    "height",
    "seconds",
    "sec",
    "ms",
    "days",
    "hours",
    "views",
    "avg",
}
TIME_WORDS = {"time", "timestamp", "ts", "datetime", "date", "stamp", "hour", "day", "dt"}
EPOCHS = [(946_684_800 * unit, 4_102_444_800 * unit) for unit in (1, 1_000, 1_000_000)]
"""From 2000 to 2100, in seconds, milliseconds and microseconds."""
WRITTEN = {8: (("%y%m%d%H%M", "00"), ("%Y%m%d", "")), 10: (("%Y%m%d%H%M", "00"),)}
WRITTEN |= {12: (("%Y%m%d%H%M", ""),), 14: (("%Y%m%d%H%M%S", ""),)}
"""Formats of dates written as numbers, and what they lack, by their digits."""
NUM_BINS = 32
PRIOR_ROWS = 20.0
SURE = 2.0
"""Standard errors by which one reading has to be better."""
TELLS = 0.05
"""Share of the label's entropy that a column which was written with it leaves, at most."""
MIN_CLICKS = 20
"""In each half of a sample; with fewer nothing is said."""


def words_of(name: str) -> set[str]:
    """Return a name's words in lower case.

    >>> sorted(words_of("userId")), sorted(words_of("ad_category_2")), sorted(words_of("URLHash"))
    (['id', 'user'], ['ad', 'category'], ['hash', 'url'])
    """
    return {word.lower() for word in WORDS.findall(name)}


def nature_by_name(name: str) -> Literal["name", "quantity"] | None:
    """Return what a whole number is by the name of its column, or ``None``.

    >>> [nature_by_name(name) for name in ("movieid", "adgroup_id", "bid", "item_price", "user", "x3")]
    ['name', 'name', 'quantity', 'quantity', 'name', None]
    """
    words = words_of(name)
    if words & QUANTITY_WORDS:
        return "quantity"
    if words & ID_WORDS or any(word.endswith("id") and not NO_ID.fullmatch(word) for word in words):
        return "name"
    return None


def is_moment(series: pl.Series) -> bool:
    """Whether a column without nulls, whose name speaks of time, holds moments: dates, or numbers or texts that are some."""
    if not words_of(series.name) & TIME_WORDS or not len(series):
        return False
    if series.dtype.is_temporal():
        return True
    if series.dtype == pl.String:
        try:
            return series.str.to_datetime(strict=False, ambiguous="earliest").null_count() == 0
        except pl.exceptions.ComputeError:  # no format fits the first of them
            return False
    if not series.dtype.is_numeric() or not bool((series == series.round()).all()):
        return False
    low, high = float(series.min()), float(series.max())  # type: ignore[arg-type]
    if any(start <= low and high <= end for start, end in EPOCHS):
        return True
    texts = series.unique().cast(pl.Int64).cast(pl.String)
    formats = WRITTEN.get(len(str(int(high))), ())
    return any((texts + rest).str.to_datetime(written, strict=False).null_count() == 0 for written, rest in formats)


class Evidence:
    """What columns of a sample say of its labels; each is learnt from one half of the rows and asked about the other.

    Args:
        labels: 0 and 1, one for each row of the sample.
    """

    def __init__(self, labels: pl.Series) -> None:
        self._clicks = labels.to_numpy().astype(np.float64)
        self._is_learnt = np.random.default_rng(0).random(len(labels)) < 0.5
        halves = [self._clicks[half] for half in (self._is_learnt, ~self._is_learnt)]
        self._is_enough = all(min(half.sum(), len(half) - half.sum()) >= MIN_CLICKS for half in halves)
        self._base = (
            _log_loss(halves[1], np.full(len(halves[1]), halves[0].mean())) if self._is_enough else np.array([])
        )

    def is_named(self, series: pl.Series) -> bool:
        """Whether a column's numbers foretell the label surely better as names than as quantities."""
        if not self._is_enough:
            return False
        gain = self._losses(_bins(series)) - self._losses(_codes(series))
        return bool(gain.mean() > SURE * gain.std() / np.sqrt(len(gain)))

    def tells_the_label(self, series: pl.Series) -> bool:
        """Whether a column leaves next to nothing of the label open: it was written when the label was known."""
        if not self._is_enough:
            return False
        readings = [_codes(series), *([_bins(series)] if series.dtype.is_numeric() else [])]
        return bool(min(self._losses(codes, 1.0).mean() for codes in readings) < TELLS * self._base.mean())

    def _losses(self, codes: NDArray[np.int64], prior_rows: float = PRIOR_ROWS) -> NDArray[np.float64]:
        """Return the log loss of each row of the other half, float64, by what one half's rows with its code did."""
        known, clicks = self._is_learnt, self._clicks
        size = int(codes.max()) + 1
        shown = np.bincount(codes[known], minlength=size)
        clicked = np.bincount(codes[known], weights=clicks[known], minlength=size)
        rates = (clicked + prior_rows * clicks[known].mean()) / (shown + prior_rows)
        return _log_loss(clicks[~known], rates[codes[~known]])


def _log_loss(clicks: NDArray[np.float64], p: NDArray[np.float64]) -> NDArray[np.float64]:
    losses: NDArray[np.float64] = -np.log(np.maximum(np.where(clicks == 1, p, 1 - p), 1e-12))
    return losses


def _codes(series: pl.Series) -> NDArray[np.int64]:
    """Return an integer for each distinct value, nulls included."""
    return series.rank("dense").fill_null(0).to_numpy().astype(np.int64)


def _bins(series: pl.Series) -> NDArray[np.int64]:
    """Return the place of each value between quantiles, which are above it or are it; nulls have one of their own."""
    values = series.cast(pl.Float64).to_numpy()
    is_there = np.isfinite(values)
    if not is_there.any():
        return np.zeros(len(values), np.int64)
    edges = np.unique(np.quantile(values[is_there], np.linspace(0, 1, NUM_BINS + 1)[1:-1]))
    return np.where(is_there, np.searchsorted(edges, values) + 1, 0)
