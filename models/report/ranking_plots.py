"""The report's plots of ranking, as SVG text: two scores and what a random order would give."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from models.evaluation.curves import lift_curve, precision_recall_curve, roc_curve
from models.evaluation.metrics import Floats, Labels
from models.report.svg import BASELINE, MODEL, PLAIN, as_svg

Curve = tuple[str, Floats]
"""Legend text and scores."""
LEAST_SHARE, LEAST_CLICKS = 0.001, 5
"""Where the curves begin: with fewer clicks above the threshold, they are noise."""


def plot_roc(labels: Labels, curves: Sequence[Curve]) -> str:
    """Plot the ROC of up to two scores, and the diagonal."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        _plot(axes, [(text, roc_curve(labels, scores)) for text, scores in curves])
        axes.plot([0, 1], [0, 1], color=PLAIN, linewidth=1, linestyle=":", label="at random, 0.5")
        axes.set(xlabel="non-clicks above the threshold, %", ylabel="clicks above the threshold, %")
        axes.set(xlim=(0, 1), ylim=(0, 1.01))
        _percent(axes.xaxis, axes.yaxis)
        axes.legend(loc="lower right")

    return as_svg(draw, "ROC curves")


def plot_precision_recall(labels: Labels, curves: Sequence[Curve]) -> str:
    """Plot click rate against the share of clicks found, of up to two scores, and the click rate of all rows."""
    rate = float(np.mean(labels, dtype=np.float64))

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        found = []
        for text, scores in curves:
            recall, precision = precision_recall_curve(labels, scores)
            shown = recall * labels.sum() >= LEAST_CLICKS
            shown[-1] = True
            found.append((text, (recall[shown], precision[shown])))
        _plot(axes, found)
        axes.plot([0, 1], [rate, rate], color=PLAIN, linewidth=1, linestyle=":", label=f"at random, {rate:.4f}")
        axes.set(
            xlabel="recall: clicks above the threshold, % of all", ylabel="precision: clicked, % above the threshold"
        )
        axes.set(xlim=(0, 1), ylim=(0, min(1.01, 1.08 * max(float(y.max()) for _, (_, y) in found) + 1e-9)))
        _percent(axes.xaxis, axes.yaxis)
        axes.legend(loc="upper right")

    return as_svg(draw, "Precision-recall curves")


def plot_lift(labels: Labels, curves: Sequence[Curve]) -> str:
    """Plot how many times the average click rate the best-scored rows have, by their share of all rows."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        found = []
        for text, scores in curves:
            share, lift = lift_curve(labels, scores)
            shown = (share >= LEAST_SHARE) & (share * lift * labels.sum() >= LEAST_CLICKS)
            shown[-1] = True
            found.append((text, (share[shown], lift[shown])))
        _plot(axes, found)
        left = min(float(x.min()) for _, (x, _) in found)
        axes.plot([left, 1], [1, 1], color=PLAIN, linewidth=1, linestyle=":", label="at random, 1")
        axes.set_xscale("log")
        axes.set(xlabel="best-scored rows, % of all", ylabel="their click rate ÷ that of all rows")
        axes.set(xlim=(0.9 * left, 1), ylim=(0, 1.08 * max(float(y.max()) for _, (_, y) in found) + 1e-9))
        axes.xaxis.set_major_locator(FixedLocator([m * 10.0**e for e in range(-4, 1) for m in (1, 2, 5)]))
        axes.xaxis.set_minor_locator(NullLocator())
        _percent(axes.xaxis)
        axes.legend(loc="upper right")

    return as_svg(draw, "Lift curves")


def _plot(axes: Axes, curves: Sequence[tuple[str, tuple[Floats, Floats]]]) -> None:
    for (text, (x, y)), colour, line in zip(curves, (MODEL, BASELINE), ("-", (0, (4, 2))), strict=False):
        axes.plot(x, y, color=colour, linestyle=line, label=text)


def _percent(*axes: Axis) -> None:
    for axis in axes:
        axis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:.6g}"))
