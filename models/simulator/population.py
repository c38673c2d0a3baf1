"""Users and ads of the simulated market, with hidden tastes, popularity, launches and retirements."""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

# A trailing None is one more value: an unknown age.
AGE_BANDS: Final = ("18-24", "25-34", "35-44", "45-54", "55+", None)
COUNTRIES: Final = ("US", "IN", "BR", "DE", "JP", "GB", "FR", "MX", "ES", "PL", "SE", "NZ")
DEVICES: Final = ("mobile", "desktop", "tablet", "tv")
FORMATS: Final = ("banner", "native", "video", "carousel")
CATEGORIES: Final = (
    *("apparel", "autos", "banking", "beauty", "books", "courses", "drinks", "electronics", "fitness", "furniture"),
    *("games", "groceries", "hotels", "insurance", "jobs", "mobile_plans", "movies", "pets", "software", "toys"),
)
TASTE_DIM: Final = 4
LAUNCHES_PER_DAY: Final = 0.04  # of the ads running at one time; on average as many retire
USUAL_PRICE: Final = 20.0

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def generator(seed: int, *stream: int) -> np.random.Generator:
    """Return the random generator of one stream; different streams of a seed are independent."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=stream)))


def draw_zipf(rng: np.random.Generator, count: int, size: int, exponent: float) -> Ints:
    """Draw ranks in [0, count) with probability falling about as (rank + 5)^−exponent; exponent ≠ 1.

    >>> draw_zipf(generator(7), 100, 8, 1.5).max() < 100
    np.True_
    """
    power, head = 1.0 - exponent, 5.0
    low, high = head**power, (count + head) ** power
    ranks = (low + (high - low) * rng.random(size)) ** (1.0 / power) - head
    drawn: Ints = np.clip(ranks.astype(np.int64), 0, count - 1)
    return drawn


def draw_normal(rng: np.random.Generator, scale: float, *shape: int) -> Floats:
    """Draw float32 [*shape] with mean 0 and standard deviation ``scale``."""
    values: Floats = rng.standard_normal(shape, np.float32) * np.float32(scale)
    return values


def dot(a: Floats, b: Floats) -> Floats:
    """Return the inner products over the last axis. Not by BLAS, whose sums can depend on the number of threads."""
    products: Floats = np.einsum("...e,...e->...", a, b)
    return products


class Users:
    """Users in order of activity. Part of a user's taste is shared by the age band; past clicks reveal the rest."""

    def __init__(self, rng: np.random.Generator, count: int) -> None:
        self.count = count
        self.names = pl.Series([f"u{i:07d}" for i in rng.permutation(count).tolist()], dtype=pl.String)
        self.age_band = rng.choice(len(AGE_BANDS), count, p=[0.16, 0.24, 0.2, 0.15, 0.13, 0.12])
        self.country = draw_zipf(rng, len(COUNTRIES), count, 1.4)
        self.device = rng.choice(len(DEVICES), count, p=[0.58, 0.27, 0.09, 0.06])
        self.taste = draw_normal(rng, 0.8, len(AGE_BANDS), TASTE_DIM)[self.age_band]  # [users, TASTE_DIM]
        self.taste += draw_normal(rng, 0.45, count, TASTE_DIM)
        self.bias = draw_normal(rng, 0.35, len(COUNTRIES))[self.country] + draw_normal(rng, 0.3, count)

    def draw(self, rng: np.random.Generator, size: int) -> Ints:
        """Draw the users of impressions; few users see many."""
        return draw_zipf(rng, self.count, size, 0.8)


class Ads:
    """All ads of the simulated days: those that run on the first day, then the launches of each day."""

    def __init__(self, rng: np.random.Generator, at_once: int, days: int) -> None:
        launches = max(1, round(at_once * LAUNCHES_PER_DAY))
        count = at_once + launches * (days - 1)
        num_advertisers = max(4, at_once // 10)
        self.launch_day = np.repeat(np.arange(days, dtype=np.float64), [at_once, *[launches] * (days - 1)])
        self.launch_day[:at_once] -= np.minimum(np.exp(rng.normal(2.8, 1.2, at_once)), 2_000.0)
        self.retire_day = np.maximum(self.launch_day, 0.0) + 1.0 + rng.exponential(1 / LAUNCHES_PER_DAY, count)
        self.advertiser = draw_zipf(rng, num_advertisers, count, 1.1)
        self.advertisers = pl.Series([f"advertiser-{i}" for i in range(num_advertisers)], dtype=pl.String)
        usual = draw_zipf(rng, len(CATEGORIES), num_advertisers, 0.6)[self.advertiser]
        other = rng.integers(0, len(CATEGORIES), count, dtype=np.int64)
        self.category = np.where(rng.random(count) < 0.8, usual, other)
        self.format = rng.choice(len(FORMATS), count, p=[0.4, 0.3, 0.2, 0.1])
        self.price = USUAL_PRICE * np.exp(rng.normal(0.0, 1.1, count))
        self.price = np.where(rng.random(count) < 0.15, np.nan, self.price.round(2))
        self.log_popularity = -1.1 * np.log(rng.permutation(count) / count * at_once + 2.0)
        self.drift_phase = rng.uniform(0.0, 2 * np.pi, count)
        self.appeal = draw_normal(rng, 0.5, len(CATEGORIES), TASTE_DIM)[self.category]  # [ads, TASTE_DIM]
        self.appeal += draw_normal(rng, 0.25, count, TASTE_DIM)
        # Ads with prices near the usual one are clicked most; those without a price come between.
        distance = np.log(np.nan_to_num(self.price, nan=2.5 * USUAL_PRICE) / USUAL_PRICE)
        self.bias = draw_normal(rng, 0.5, num_advertisers)[self.advertiser] + draw_normal(rng, 0.35, count)
        self.bias += (0.7 * np.exp(-(distance**2))).astype(np.float32)

    def draw(self, rng: np.random.Generator, day: int, size: int) -> Ints:
        """Draw which of the ads running on a day are shown; popularity is long-tailed and changes over weeks."""
        running = np.flatnonzero((self.launch_day <= day) & (self.retire_day > day))
        weight = np.exp(self.log_popularity[running] + 0.7 * np.sin(self.drift_phase[running] + day / 4.0))
        cumulative = np.cumsum(weight)
        at = np.searchsorted(cumulative, rng.random(size) * cumulative[-1], side="right")
        shown: Ints = running[np.minimum(at, len(running) - 1)]
        return shown
