"""The report's plots of learning and calibration, as SVG text. No text from the data is in any of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from models.evaluation.metrics import Floats, Labels, reliability_curve
from models.report.svg import BASELINE, INK, MODEL, PLAIN, WASH, as_svg, legend_above

if TYPE_CHECKING:
    from models.training.trainer import Epoch

# Click rates below this are drawn on logarithmic axes; on a linear axis all bins would be in one corner.
LOG_BELOW = 0.1
NUM_HISTOGRAM_BINS = 40


@dataclass(frozen=True)
class Scale:
    """Range and scale of a probability axis."""

    low: float
    high: float
    is_log: bool

    @classmethod
    def of(cls, labels: Labels, probabilities: Floats) -> Scale:
        """Cover all but the outermost 0.1 % of the scores, and the click rates of all bins."""
        bins = reliability_curve(labels, probabilities)
        rates = np.concatenate((bins.click_rate, bins.low, bins.high))
        is_log = float(np.mean(labels, dtype=np.float64)) < LOG_BELOW
        low, high = (float(q) for q in np.quantile(probabilities, [0.001, 0.999]))
        high = min(1.0, 1.04 * max(high, float(rates.max())))
        if not is_log:
            return cls(0.0, high, is_log)
        return cls(max(1e-7, 0.8 * min([low, *rates[rates > 0].tolist()])), high, is_log)

    def edges(self) -> Floats:
        """Return the bin edges of a histogram, float64 [41]."""
        space = np.geomspace if self.is_log else np.linspace
        return space(self.low, self.high, NUM_HISTOGRAM_BINS + 1, dtype=np.float64)

    def apply(self, axes: Axes, *names: str) -> None:
        """Set range, ticks and their labels of the axes ``x`` and ``y`` named."""
        for name in names:
            axis = axes.xaxis if name == "x" else axes.yaxis
            axes.set(**{f"{name}scale": "log" if self.is_log else "linear", f"{name}lim": (self.low, self.high)})
            if self.is_log:
                steps = [m * 10.0**e for e in range(-8, 1) for m in (1, 2, 5)]
                ticks = [t for t in steps if self.low <= t <= self.high]
                axis.set_major_locator(mpl.ticker.FixedLocator(ticks[:: 1 + (len(ticks) - 1) // 9]))
                axis.set_minor_locator(NullLocator())
            axis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:.6g}"))


def plot_learning(history: Sequence[Epoch], best_epoch: int, baseline_log_loss: float | None) -> str:
    """Plot training and validation log loss by epoch, with a ring at the best epoch and a dashed line at the baseline's loss."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        epochs = [e.epoch for e in history]
        train, validation = [e.train_log_loss for e in history], [e.validation_log_loss for e in history]
        axes.plot(epochs, train, "--o", color=PLAIN, markersize=5, label="training")
        axes.plot(epochs, validation, "-o", color=MODEL, markersize=5, label="validation")
        if baseline_log_loss is not None:
            label = "logistic regression, validation"
            axes.axhline(baseline_log_loss, color=BASELINE, linestyle=(0, (4, 3)), linewidth=1.4, label=label)
        for epoch, loss in zip(epochs, validation, strict=True):
            if epoch == best_epoch:
                axes.plot(
                    [epoch], [loss], "o", color="none", markeredgecolor=INK, markersize=12, label="best epoch, kept"
                )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set(xlabel="epoch", ylabel="log loss, nats per impression")
        axes.set_xlim(min(epochs) - 0.3, max(epochs) + 0.3)
        axes.margins(y=0.1)
        legend_above(axes)

    return as_svg(draw, "Log loss by epoch, training and validation")


def plot_reliability(labels: Labels, calibrated: Floats, raw: Floats) -> str:
    """Plot click rate by predicted probability in bins of equal mass, above a histogram of the probabilities."""

    def draw(figure: Figure) -> None:
        axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        scale = Scale.of(labels, calibrated)
        axes.plot(
            [scale.low, scale.high], [scale.low, scale.high], color=PLAIN, linewidth=1, linestyle=":", label="perfect"
        )
        before, bins = reliability_curve(labels, raw), reliability_curve(labels, calibrated)
        x, y = before.mean_probability, np.where(before.click_rate > scale.low, before.click_rate, np.nan)
        axes.plot(x, y, "x", color=PLAIN, markersize=6, markeredgewidth=1.4, label="before calibration")
        x, y = bins.mean_probability, np.maximum(bins.click_rate, scale.low)
        ends = np.maximum(np.stack((y - np.maximum(bins.low, scale.low), bins.high - y)), 0)
        style = {"color": MODEL, "markersize": 5, "elinewidth": 1.4, "capsize": 2.5, "clip_on": False}
        axes.errorbar(x, y, yerr=ends, fmt="o", label="calibrated, with 95 % interval", **style)
        scale.apply(axes, "x", "y")
        axes.set_ylabel("clicked, % of the bin")
        axes.legend(loc="upper left")
        weights = np.full(len(calibrated), 100 / len(calibrated))
        below.hist(
            np.clip(calibrated, scale.low, scale.high),
            bins=scale.edges().tolist(),
            weights=weights,
            color=WASH,
        )
        scale.apply(below, "x")
        below.yaxis.set_major_locator(MaxNLocator(2))
        below.set(xlabel="predicted probability of a click, %", ylabel="rows, %")
        figure.align_ylabels()

    return as_svg(draw, "Reliability diagram with the histogram of predictions", height=1.25)


def plot_scores(labels: Labels, probabilities: Floats) -> str:
    """Plot histograms of the predictions for clicks and for non-clicks, each summing to 100 %."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        scale = Scale.of(labels, probabilities)
        shown = np.clip(probabilities, scale.low, scale.high)
        for value, text, colour, line in ((0, "not clicked", PLAIN, "-"), (1, "clicked", MODEL, "-")):
            x = shown[labels == value]
            share = np.histogram(x, scale.edges())[0] * (100 / max(len(x), 1))
            axes.stairs(share, scale.edges(), color=colour, fill=True, alpha=0.25)
            axes.stairs(
                share, scale.edges(), color=colour, linewidth=1.8, linestyle=line, label=f"{text} ({len(x):,} rows)"
            )
        scale.apply(axes, "x")
        axes.set(xlabel="predicted probability of a click, %", ylabel="rows of the class, % per bar")
        axes.set_ylim(bottom=0)
        legend_above(axes)

    return as_svg(draw, "Histogram of predictions by label", height=1.25)


def interval_dot(low: float, value: float, high: float, limit: float) -> str:
    """Return one row of a dot plot of ratios on a logarithmic axis from 1/limit to limit, with a line at 1.

    The dot is a blue disc if its interval covers 1, else an orange diamond; beyond the axis it is an arrow.
    """
    left, at, right = (200 * ratio_position(x, limit) for x in (low, value, high))
    clear = low > 1 or high < 1
    colour = "var(--warn)" if clear else "var(--model)"
    if not 1 / limit <= value <= limit:
        tip = 5 if value > 1 else -5
        mark = f'<path d="M{at:.1f} 4l{tip} 5 {-tip} 5z"'
    elif clear:
        mark = f'<path d="M{at:.1f} 4l5 5-5 5-5-5z"'
    else:
        mark = f'<circle cx="{at:.1f}" cy="9" r="4"'
    return (
        f'<svg class="dot" viewBox="-6 0 212 18" role="img" aria-label="{value:.2f}, {low:.2f} to {high:.2f}">'
        f'<path d="M0 0V18M200 0V18" style="stroke:var(--grid)"/>'
        f'<path d="M100 0V18" style="stroke:var(--plain)" stroke-dasharray="2 2"/>'
        f'<path d="M{left:.1f} 9H{right:.1f}" style="stroke:{colour}" stroke-width="1.6"/>{mark} style="fill:{colour}"/></svg>'
    )


def ratio_position(ratio: float, limit: float) -> float:
    """Return the position of a ratio on the axis of `interval_dot`, from 0 to 1.

    >>> [round(ratio_position(x, 2.0), 2) for x in (0.0, 0.5, 1.0, 2.0, float("inf"))]
    [0.0, 0.0, 0.5, 1.0, 1.0]
    """
    return 0.5 + 0.5 * float(np.log(np.clip(ratio, 1 / limit, limit)) / np.log(limit))
