"""Infers the side of each field: of the user, page and moment (``context``), or of the ad (``candidate``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import polars as pl

from models.data.column_evidence import words_of
from models.features.moments import HOUR_US
from models.schema.feature_schema import FieldSpec, Side

USER_NAMES = (
    "userid", "uid", "user", "memberid", "member", "visitorid", "visitor", "customerid", "customer", "deviceid", "cookie",
    "cookieid", "personid", "impressionuser", "ip", "deviceip", "sessionid", "session",
)  # fmt: skip
"""Of columns that may name the user, the likeliest first, without underscores."""
CONTEXT_WORDS = frozenset({
    "user", "uid", "device", "hour", "weekday", "site", "app", "page", "query", "session", "country", "tab", "gender", "sex",
    "age", "occupation", "os", "browser", "network", "referrer", "day", "time", "agent", "language", "city", "region", "ip", "member",
    "history", "clicked", "watched", "viewed", "recent", "connection", "locale", "platform", "province", "zip",
})  # fmt: skip
ITEM_WORDS = frozenset({
    "ad", "item", "video", "movie", "news", "product", "creative", "banner", "campaign", "article", "song", "doc", "document",
    "book", "post", "offer", "goods", "sku", "note", "feed", "photo", "content", "adgroup", "target", "track",
})  # fmt: skip
MOMENT_WORDS = frozenset({"hour", "weekday", "dow", "dayofweek", "minute", "month", "season", "holiday", "weekend"})
MIN_PAIRS = 50
"""Pairs of rows that a conclusion needs."""
SAME = 0.8
"""Agreement beyond chance from which a field belongs to what two rows have in common."""


class Found(NamedTuple):
    """A field's side and the reason."""

    side: Side
    reason: str


def find_user(frame: pl.DataFrame, fields: Sequence[FieldSpec]) -> str | None:
    """Return the categorical field that names the user, by its name; ``None`` if no name says so."""
    plain = {f.name.lower().replace("_", ""): f.name for f in reversed(fields) if f.kind == "categorical"}
    return next((plain[want] for want in USER_NAMES if want in plain and frame[plain[want]].n_unique() > 1), None)


def find_sides(
    frame: pl.DataFrame, fields: Sequence[FieldSpec], user: str | None, moments: pl.Series | None
) -> dict[str, Found]:
    """Return the side of each field and the reason, by name.

    A field that two rows of one user share is of the context, and one that two rows of one ad share is of the candidate. Else
    what is the same on a page, which is one user's rows of one moment, is of the context. Only then names count.

    Args:
        frame: a sample of the log.
        fields: inferred, whatever their side.
        user: the field that names the user.
        moments: the sample's times; those of whole hours tell no page views apart.
    """
    hashes = pl.DataFrame({f.name: _hashes(frame[f.name]) for f in fields})
    users = _pairs(hashes, [user]) if user else None
    item = _find_item(hashes, fields, user, users)
    items = _pairs(hashes, [item]) if item else None
    page = None
    if user and moments is not None and bool((moments.drop_nulls().to_physical() % HOUR_US != 0).any()):
        page = _pairs(hashes.with_columns(moments.to_physical().alias("\0at")), [user, "\0at"])
    found: dict[str, Found] = {}
    for field in fields:
        name, words = field.name, words_of(field.name)
        is_item = words & ITEM_WORDS and not words & {"user", "uid", "member", "device"}
        by_name: Side = "context" if words & CONTEXT_WORDS and not is_item else "candidate"
        chance = _chance(hashes[name])
        of_user, of_item, of_page = (None if p is None else _agreement(p, name, chance) for p in (users, items, page))
        if name == user:
            found[name] = Found("context", "names the user")
        elif name == item:
            found[name] = Found("candidate", f"differs between the rows of one {user!r}" if user else "names the ad")
        elif words & MOMENT_WORDS:
            found[name] = Found("context", "tells of the moment, by its name")
        elif of_user is not None and of_user >= SAME and of_user > (of_item or 0.0):
            found[name] = Found("context", f"the same in all rows of one {user!r}")
        elif of_item is not None and of_item >= SAME:
            found[name] = Found("candidate", f"the same in all rows of one {item!r}")
        elif of_page is not None and of_page < SAME:
            found[name] = Found("candidate", "differs within one page view")
        elif of_page is not None and page is not None and page.height >= MIN_PAIRS:
            found[name] = Found("context", "the same within one page view")
        else:
            found[name] = Found(
                by_name, "by its name" if words & (CONTEXT_WORDS | ITEM_WORDS) else "not known: nothing tells"
            )
    return found


def _hashes(column: pl.Series) -> pl.Series:
    return (column.cast(pl.List(pl.String)).list.join("\0") if isinstance(column.dtype, pl.List) else column).hash()


def _find_item(
    hashes: pl.DataFrame, fields: Sequence[FieldSpec], user: str | None, users: pl.DataFrame | None
) -> str | None:
    """Return the field that names the ad: of those with many tokens that differ between a user's rows, the likeliest."""
    ranked = []
    for field in fields:
        size = hashes[field.name].n_unique()
        if field.kind != "categorical" or field.name == user or size < 3 or words_of(field.name) & CONTEXT_WORDS:
            continue
        shared = None if users is None else _agreement(users, field.name, _chance(hashes[field.name]))
        if shared is None or shared < SAME:
            words = words_of(field.name)
            ranked.append(
                (bool(words & ITEM_WORDS and words & {"id", "ad", "item"}), bool(words & ITEM_WORDS), size, field.name)
            )
    return max(ranked)[-1] if ranked else None


def _pairs(hashes: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """Return whether each field is equal in two rows that follow each other among those with equal keys, Boolean."""
    ordered = hashes.with_row_index("\0row").sort([*keys, "\0row"]).drop("\0row")
    is_pair = pl.all_horizontal(pl.col(key) == pl.col(key).shift(1) for key in keys)
    return ordered.select(is_pair.alias("\0pair"), *(pl.col(c) == pl.col(c).shift(1) for c in ordered.columns)).filter(
        "\0pair"
    )


def _chance(column: pl.Series) -> float:
    """Return the probability that two random rows agree."""
    shares = column.value_counts()["count"].to_numpy() / max(len(column), 1)
    return float((shares**2).sum())


def _agreement(pairs: pl.DataFrame, name: str, chance: float) -> float | None:
    """Return how much oftener than by chance the rows of a pair agree, 1: always; ``None`` without evidence."""
    if pairs.height < MIN_PAIRS or chance > 0.9999:
        return None
    return (float(pairs[name].mean() or 0.0) - chance) / (1 - chance)  # type: ignore[arg-type]
