"""Bounds that a model must meet to become the current one: ``auc>=0.7,calibration within 3%`` on the command line."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from models.errors import ModelsError
from models.evaluation.metrics import Metrics

NAMES = [name for name in Metrics.model_fields if name not in ("rows", "base_rate")]
TWO_SIDED = "calibration"
"""Σp/Σy, which is best at 1: a model that predicts too few clicks is as wrong as one that predicts too many."""
BOUND = re.compile(r"(\w+)\s*(>=|<=)\s*(\S+)")
WITHIN = re.compile(r"(\w+)\s+within\s+(\S+?)\s*%")


class Requirement(NamedTuple):
    """The least and the largest value that a metric of the last held-out part may have."""

    metric: str
    least: float = -math.inf
    most: float = math.inf

    def failure(self, metrics: Metrics) -> str | None:
        """Return what is wrong, or ``None``. A metric that is ``None`` or NaN does not meet any bound.

        >>> good = Metrics(rows=9, base_rate=0.1, log_loss=0.3, normalized_entropy=0.9, auc=0.7, calibration=0.9, ece=0.0)
        >>> [r.failure(good) for r in parse_requirements("auc >= 0.7, log_loss<=0.25, calibration within 3%")]
        [None, 'log_loss is 0.3000, required at most 0.25', 'calibration is 0.9000, required 0.97 to 1.03']
        """
        value: float | None = getattr(metrics, self.metric)
        if value is not None and self.least <= value <= self.most:
            return None
        return f"{self.metric} is {'unknown' if value is None else f'{value:.4f}'}, required {self._range()}"

    def _range(self) -> str:
        if self.most == math.inf:
            return f"at least {self.least:g}"
        return f"at most {self.most:g}" if self.least == -math.inf else f"{self.least:g} to {self.most:g}"


def parse_requirements(text: str) -> tuple[Requirement, ...]:
    """Read bounds separated by commas; those of one metric are joined.

    Raises:
        ModelsError: a part is empty or not a bound, names an unknown metric, or can never be met; or calibration is bounded
            on one side only.
    """
    found: dict[str, Requirement] = {}
    for bound in map(_parse, text.split(",")):
        before = found.get(bound.metric, Requirement(bound.metric))
        joined = Requirement(bound.metric, max(before.least, bound.least), min(before.most, bound.most))
        if joined.least > joined.most:
            raise ModelsError(f"--require: no {bound.metric} is at least {joined.least:g} and at most {joined.most:g}")
        found[bound.metric] = joined
    both = found.get(TWO_SIDED)
    if both is not None and not (both.least > -math.inf and both.most < math.inf):
        raise ModelsError(f"--require: {TWO_SIDED} needs a bound on both sides, such as '{TWO_SIDED} within 3%'")
    return tuple(found.values())


def failures(requirements: Sequence[Requirement], metrics: Metrics) -> tuple[str, ...]:
    """Return a message for each requirement that is not met."""
    return tuple(text for text in (r.failure(metrics) for r in requirements) if text is not None)


def _parse(text: str) -> Requirement:
    part = text.strip()
    within, bound = WITHIN.fullmatch(part), BOUND.fullmatch(part)
    match = within or bound
    if match is None or not math.isfinite(number := _number(match[match.re.groups])):
        raise ModelsError(f"--require: {part!r} is not a bound such as 'auc>=0.7' or '{TWO_SIDED} within 3%'")
    name = match[1]
    if name not in NAMES:
        raise ModelsError(f"--require: unknown metric {name!r}, expected one of {', '.join(NAMES)}")
    if bound is not None:
        return Requirement(name, least=number) if bound[2] == ">=" else Requirement(name, most=number)
    if name != TWO_SIDED or not 0 < number < 100:
        raise ModelsError(f"--require: 'within' is for {TWO_SIDED} and takes more than 0 % and less than 100 %")
    return Requirement(name, 1 - number / 100, 1 + number / 100)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
