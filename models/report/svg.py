"""Plots as SVG text, drawn by matplotlib without pyplot, and so without global state. The same arrays give the same bytes.

Text stays text, in the page's font, and colours are variables of the page, which has a light and a dark mode.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# Colours that colour-blind readers can tell apart (Okabe & Ito 2008).
MODEL, BASELINE, PLAIN, WASH, INK, GRID = "#0072b2", "#d55e00", "#8a929c", "#80b8d8", "#2b3138", "#e4e7eb"
VARIABLES = {MODEL: "--model", BASELINE: "--warn", PLAIN: "--plain", WASH: "--pale", INK: "--ink", GRID: "--grid"}
"""Variables of ``report.css`` by the colour that stands for them while matplotlib draws."""
SIZE = (6.2, 4.1)  # inches; the page scales it
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "ctrserve",
    "text.parse_math": False,
    "text.color": INK,
    "font.size": 11,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": PLAIN,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": PLAIN,
    "ytick.color": PLAIN,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "lines.linewidth": 2.0,
    "lines.solid_capstyle": "round",
}


def legend_above(axes: Axes) -> None:
    """Put the legend above the axes, in two columns."""
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, borderaxespad=0.2, columnspacing=1.4)


def as_svg(draw: Callable[[Figure], None], description: str, height: float = 1.0) -> str:
    """Return what ``draw`` draws.

    Args:
        draw: called once, with an empty figure.
        description: for readers who do not see the plot.
        height: of the figure, relative to that of most plots.
    """
    defaults = {key: value for key, value in mpl.rcParamsDefault.items() if not key.startswith("backend")}
    with mpl.rc_context({**defaults, **STYLE}):  # independent of a matplotlibrc
        figure = Figure(figsize=(SIZE[0], SIZE[1] * height), layout="constrained")
        draw(figure)
        file = io.StringIO()
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(file, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # the ids of groups would repeat in each plot
    svg = re.sub(r"<style[^>]*>.*?</style>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r"font-family: [^;\"]*", "font-family: inherit", svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    view = re.search(r'viewBox="[^"]*"', svg)
    assert view is not None, "matplotlib always writes one"
    return f'<svg class="plot" role="img" aria-label="{description}" {view[0]}>' + svg[svg.index(">") + 1 :]
