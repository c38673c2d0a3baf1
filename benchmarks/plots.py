"""The figures of ``docs/performance.md``: SVG, made from results alone, the same bytes for the same results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "ctrserve"
mpl.rcParams["svg.fonttype"] = "none"
import matplotlib.pyplot as plt  # noqa: E402  # after the backend is chosen
from matplotlib.axes import Axes  # noqa: E402

COLOURS = {"ours": "#0b6e4f", "naive": "#8d99ae", "floor": "#d9d9d9", "peer": "#457b9d"}
SIZE = (8.0, 4.2)
Result = Mapping[str, Any]


def _save(path: Path, title: str, axes: Axes) -> None:
    axes.set_title(title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)


def plot_throughput(serving: Result, scenario: str, path: Path) -> None:
    """Draw requests per second of every system, best last, as bars."""
    found = {n: s for n, s in serving["systems"].items() if scenario in s["closed_loop"]}
    names = sorted(found, key=lambda n: found[n]["closed_loop"][scenario]["requests_per_s"])
    _, axes = plt.subplots(figsize=SIZE)
    rates = [found[name]["closed_loop"][scenario]["requests_per_s"] for name in names]
    bars = axes.barh(names, rates, color=[COLOURS[found[name]["kind"]] for name in names])
    axes.bar_label(bars, labels=[f"{rate:,.0f}" for rate in rates], padding=3, fontsize=8)
    axes.set_xlabel("requests per second")
    _save(path, f"{scenario}: closed loop, one worker", axes)


def plot_open_loop(serving: Result, path: Path) -> None:
    """Draw the 99th percentile of ours second by second."""
    _, axes = plt.subplots(figsize=SIZE)
    for run in _ours(serving)["open_loop"]:
        if run["rows"] > 1:
            continue
        seconds = [x if x is not None else float("nan") for x in run["per_second_p99_ms"]]
        axes.semilogy(seconds, label=f"{run['arrivals']} arrivals, {run['offered_rps']:,.0f}/s offered", linewidth=1)
    axes.set_xlabel("second")
    axes.set_ylabel("p99 from the moment due, ms")
    axes.legend(frameon=False)
    _save(path, "ctrserve in an open loop at 70 % of its best rate with single rows", axes)


def _ours(serving: Result) -> Any:
    return next(system for system in serving["systems"].values() if system["kind"] == "ours")


def plot_lines(
    x: Sequence[float], lines: Mapping[str, Sequence[float]], labels: tuple[str, str, str], path: Path
) -> None:
    """Draw lines over x, both axes logarithmic; ``labels`` are title, x and y."""
    _, axes = plt.subplots(figsize=SIZE)
    for name, y in lines.items():
        axes.loglog(x, y, marker="o", markersize=4, linewidth=1.2, label=name)
    title, x_label, y_label = labels
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(frameon=False)
    _save(path, title, axes)
