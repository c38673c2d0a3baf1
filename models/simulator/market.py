"""A simulated ad market with known click probabilities: who sees which ad where, and how likely a click is.

All draws of a day come from a generator seeded by (seed, day), so they do not depend on the number of rows of other days.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.simulator import population
from models.simulator.population import Ads, Floats, Ints, Users, dot, draw_normal, draw_zipf, generator

FIRST_DAY: Final = date(2026, 1, 5)  # a Monday
FIRST_AD_ID: Final = 3_000_000_000  # beyond int32, and neighbours would merge in float32
MAX_CLICKED: Final = 20
DAY_MS: Final = 86_400_000
LOGIT_SPREAD: Final = 1.05  # standard deviation of the first day's true logits: a Bayes-optimal AUC near 0.77

WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
PAGES: Final = ("news", "sport", "weather", "cooking", "finance", "travel", "gaming", "music", "health", None)


@dataclass(frozen=True, slots=True)
class Traffic:
    """What to simulate. ``base_rate`` is the mean click probability; that of a single day is within 6 % of it."""

    rows: int
    days: int
    seed: int
    users: int
    ads: int
    base_rate: float = 0.05


@dataclass(frozen=True, slots=True)
class SimulatedDay:
    """One day's impressions in order of time, and the true click probability of each, float64 [rows]."""

    day: date
    impressions: pl.DataFrame
    true_probability: NDArray[np.float64]


def simulate_days(traffic: Traffic) -> Iterator[SimulatedDay]:
    """Yield the days in order, one at a time; ``rows`` are spread evenly over them.

    >>> first, second = simulate_days(Traffic(rows=1000, days=2, seed=7, users=50, ads=20))
    >>> first.impressions.height, str(second.day), first.impressions["click"].unique().sort().to_list()
    (500, '2026-01-06', [0, 1])
    """
    market = _Market(traffic)
    for day in range(traffic.days):
        num_rows = traffic.rows * (day + 1) // traffic.days - traffic.rows * day // traffic.days
        yield market.simulate(day, num_rows, generator(traffic.seed, day))


class _ClickHistory:
    """Each user's last clicked ads before the current day, oldest first, int32 [users, MAX_CLICKED]; padded with −1 in front."""

    def __init__(self, rng: np.random.Generator, users: Users, ads: Ads) -> None:
        self.clicked = np.full((users.count, MAX_CLICKED), -1, np.int32)
        lengths = rng.geometric(1 / 6, users.count) - 1
        for place in range(MAX_CLICKED):  # before the first day: of five ads shown, a noisy favourite
            who = np.flatnonzero(lengths > place)
            shown = ads.draw(rng, 0, len(who) * 5).reshape(-1, 5)
            liking = dot(users.taste[who, None, :], ads.appeal[shown]) + ads.bias[shown]
            best = (liking + rng.gumbel(size=shown.shape)).argmax(axis=1)
            self.clicked[who, MAX_CLICKED - 1 - place] = shown[np.arange(len(who)), best]

    def lists(self, user: Ints) -> pl.Series:
        """Return one list of ad ids per impression; null if the user has not clicked yet."""
        active = np.zeros(len(self.clicked), np.bool_)
        active[user] = True
        clicked = self.clicked[active]
        table = pl.DataFrame({"ids": clicked.astype(np.int64) + FIRST_AD_ID, "length": (clicked >= 0).sum(axis=1)})
        ids = pl.when(pl.col("length") > 0).then(pl.col("ids").arr.to_list().list.tail(pl.col("length")))
        return table.select(ids.alias("clicked_ads")).to_series().gather(np.cumsum(active)[user] - 1)

    def append(self, user: Ints, ad: Ints) -> None:
        """Add the clicks of a day, in order of time."""
        by_user = np.argsort(user, kind="stable")
        who, start, count = np.unique(user[by_user], return_index=True, return_counts=True)
        skipped = np.maximum(count - MAX_CLICKED, 0)
        place = np.arange(len(user)) - np.repeat(start + skipped, count)  # among the user's last clicks; < 0: too old
        row = np.repeat(np.arange(len(who)), count)
        fresh = np.full((len(who), MAX_CLICKED), -1, np.int32)
        fresh[row[place >= 0], place[place >= 0]] = ad[by_user][place >= 0]
        both = np.concatenate([self.clicked[who], fresh], axis=1)
        last = (count - skipped)[:, None] + np.arange(MAX_CLICKED)
        self.clicked[who] = np.take_along_axis(both, last, axis=1)


@dataclass(frozen=True, slots=True)
class _Shown:
    """A day's impressions in order of time, as indices into the market's tables, int64 [rows]; ``ad_age_days`` float64."""

    time_ms: Ints
    hour: Ints
    user: Ints
    device: Ints
    site: Ints
    page: Ints
    ad: Ints
    ad_age_days: NDArray[np.float64]


class _Market:
    def __init__(self, traffic: Traffic) -> None:
        rng = generator(traffic.seed)
        self.base_rate = traffic.base_rate
        self.users = Users(rng, traffic.users)
        self.ads = Ads(rng, traffic.ads, traffic.days)
        self.num_sites = 20 + traffic.ads // 5
        self.sites = pl.Series([f"site-{i}.example" for i in range(self.num_sites)], dtype=pl.String)
        self.site_page = rng.integers(0, len(PAGES), self.num_sites)
        self.site_bias = draw_normal(rng, 0.45, self.num_sites)
        self.page_category = draw_normal(rng, 0.3, len(PAGES), len(population.CATEGORIES))
        self.device_format = draw_normal(rng, 0.3, len(population.DEVICES), len(population.FORMATS))
        hours = np.arange(24)
        self.hour_bias = (0.35 * np.sin((hours - 14) / 24 * 2 * np.pi)).astype(np.float32)
        share = np.cumsum(
            1.0 + 0.8 * np.sin((hours - 9) / 24 * 2 * np.pi)
        )  # of the impressions, by the end of each hour
        self.until_hour = np.concatenate([[0.0], share / share[-1]])
        self.history = _ClickHistory(rng, self.users, self.ads)
        self.scale = np.float32(1.0)
        self.scale = np.float32(LOGIT_SPREAD / self.logit(self.show(0, 50_000, rng)).std())

    def show(self, day: int, num_rows: int, rng: np.random.Generator) -> _Shown:
        """Draw which users see which ads, where and when."""
        moment = np.sort(rng.random(num_rows))
        time_ms = np.interp(moment, self.until_hour, np.arange(25) * (DAY_MS / 24)).astype(np.int64)
        time_ms = np.minimum(time_ms, DAY_MS - 1)
        user = self.users.draw(rng, num_rows)
        other_device = rng.integers(
            0, len(population.DEVICES) * 6, num_rows
        )  # one time in six a random one, else the usual
        device = np.where(other_device < len(population.DEVICES), other_device, self.users.device[user])
        site = draw_zipf(rng, self.num_sites, num_rows, 1.4)
        other_page = rng.integers(0, len(PAGES) * 4, num_rows)
        page = np.where(other_page < len(PAGES), other_page, self.site_page[site])
        ad = self.ads.draw(rng, day, num_rows)
        age_days = np.round(day + time_ms / DAY_MS - self.ads.launch_day[ad], 3)
        return _Shown(time_ms, time_ms // (DAY_MS // 24), user, device, site, page, ad, age_days)

    def logit(self, shown: _Shown) -> Floats:
        """Return the logits of the click probabilities without the day's intercept, float32 [rows]."""
        user, ad = shown.user, shown.ad
        logit = self.users.bias[user] + self.ads.bias[ad] + self.site_bias[shown.site] + self.hour_bias[shown.hour]
        logit += dot(self.users.taste[user], self.ads.appeal[ad])
        logit += self.page_category[shown.page, self.ads.category[ad]]
        logit += self.device_format[shown.device, self.ads.format[ad]]
        logit -= np.float32(0.3) * np.log1p(shown.ad_age_days.astype(np.float32) / 7)
        return logit * self.scale

    def simulate(self, day: int, num_rows: int, rng: np.random.Generator) -> SimulatedDay:
        """Simulate the next day. Call in order of days, since clicks become history."""
        shown = self.show(day, num_rows, rng)
        logit = self.logit(shown).astype(np.float64)
        p = _sigmoid(logit + _intercept(logit, self.base_rate * (1 + 0.06 * np.sin(day / 7 * 2 * np.pi))))
        click = rng.random(num_rows) < p
        today = FIRST_DAY + timedelta(days=day)
        impressions = self._frame(today, shown, click)
        self.history.append(shown.user[click], shown.ad[click])
        return SimulatedDay(today, impressions, p)

    def _frame(self, today: date, shown: _Shown, click: NDArray[np.bool_]) -> pl.DataFrame:
        users, ads, user, ad = self.users, self.ads, shown.user, shown.ad
        midnight_ms = (today - date(1970, 1, 1)).days * DAY_MS
        return pl.DataFrame(
            {
                "click": pl.Series(click.astype(np.int8)),
                "time": pl.Series(midnight_ms + shown.time_ms).cast(pl.Datetime("ms", "UTC")),
                "user_id": users.names.gather(user),
                "age_band": _labels(population.AGE_BANDS, users.age_band[user]),
                "country": _labels(population.COUNTRIES, users.country[user]),
                "device": _labels(population.DEVICES, shown.device),
                "hour": pl.Series(shown.hour.astype(np.int8)),
                "weekday": _labels(WEEKDAYS, np.full(len(user), today.weekday())),
                "site": self.sites.gather(shown.site),
                "page_category": _labels(PAGES, shown.page),
                "clicked_ads": self.history.lists(user),
                "ad_id": pl.Series(ad + FIRST_AD_ID),
                "advertiser": ads.advertisers.gather(ads.advertiser[ad]),
                "ad_category": _labels(population.CATEGORIES, ads.category[ad]),
                "creative_format": _labels(population.FORMATS, ads.format[ad]),
                "ad_age_days": pl.Series(shown.ad_age_days),
                "price": pl.Series(ads.price[ad], nan_to_null=True),
            }
        )


def _sigmoid(z: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1.0 / (1.0 + np.exp(-z))


def _intercept(logit: NDArray[np.float64], rate: float) -> float:
    """Find by bisection the number to add to the logits for a mean probability of ``rate``; uses at most 200,000 of them."""
    sample = logit[:: 1 + len(logit) // 200_000]
    low, high = -30.0, 30.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if _sigmoid(sample + middle).mean() > rate else (middle, high)
    return (low + high) / 2


def _labels(names: tuple[str | None, ...], code: Ints) -> pl.Series:
    return pl.Series(names, dtype=pl.String).gather(code)
