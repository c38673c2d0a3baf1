"""Bounds that a model must meet to become the current one: ``auc>=0.7,calibration<=1.03`` on the command line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from models.errors import ModelsError
from models.evaluation.metrics import Metrics

NAMES = [name for name in Metrics.model_fields if name not in ("rows", "base_rate")]


class Requirement(NamedTuple):
    """A bound for one metric of the last held-out part."""

    metric: str
    is_least: bool
    bound: float

    def failure(self, metrics: Metrics) -> str | None:
        """Return what is wrong, or ``None``. A metric that is ``None`` does not meet any bound.

        >>> good = Metrics(rows=9, base_rate=0.1, log_loss=0.3, normalized_entropy=0.9, auc=0.7, calibration=1.0, ece=0.0)
        >>> [r.failure(good) for r in parse_requirements("auc >= 0.7, log_loss<=0.25")]
        [None, 'log_loss is 0.3000, required at most 0.25']
        """
        value: float | None = getattr(metrics, self.metric)
        if value is not None and (value >= self.bound if self.is_least else value <= self.bound):
            return None
        found = "unknown" if value is None else f"{value:.4f}"
        return f"{self.metric} is {found}, required at {'least' if self.is_least else 'most'} {self.bound:g}"


def parse_requirements(text: str) -> tuple[Requirement, ...]:
    """Read bounds separated by commas.

    Raises:
        ModelsError: a part is not a bound, or names an unknown metric.
    """
    found = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        match = re.fullmatch(r"(\w+)\s*(>=|<=)\s*([0-9.eE+-]+)", part)
        try:
            name, sign, bound = match.groups() if match else ("", "", "")
            found.append(Requirement(name, sign == ">=", float(bound)))
        except ValueError as error:
            raise ModelsError(f"--require: {part!r} is not a bound such as 'auc>=0.7'") from error
        if name not in NAMES:
            raise ModelsError(f"--require: unknown metric {name!r}, expected one of {', '.join(NAMES)}")
    return tuple(found)


def failures(requirements: Sequence[Requirement], metrics: Metrics) -> tuple[str, ...]:
    """Return a message for each requirement that is not met."""
    return tuple(text for text in (r.failure(metrics) for r in requirements) if text is not None)
