"""Renders the training report, a self-contained HTML page, and the model card in Markdown, from `ReportData`.

Pure: no clock, no network; the same data gives the same bytes. The templates escape every text.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from models.data.shown_time import shown_time
from models.evaluation.curves import average_precision
from models.evaluation.metric_names import METRICS
from models.evaluation.metrics import Metrics, auc
from models.report import plots
from models.report.conclusions import segment_ratios, verdict
from models.report.ranking_plots import plot_lift, plot_precision_recall, plot_roc
from models.report.report_data import LogReport, ReportData, Scored

AXIS_LIMITS = (1.1, 1.25, 1.5, 2.0, 4.0)
"""The axis of the segment plots runs from 1/limit to limit; the first that holds the intervals of all values with 1 % of the rows."""


def render_report(data: ReportData) -> str:
    """Return the page: HTML without scripts and without references to other files."""
    scored = data.parts[-1]
    baseline = data.validation.baseline_metrics
    drawn = _ranking(scored) | {
        "learning": plots.plot_learning(data.history, data.best_epoch, None if baseline is None else baseline.log_loss),
        "reliability": plots.plot_reliability(scored.labels, scored.probabilities, scored.raw_probabilities),
        "scores": plots.plot_scores(scored.labels, scored.probabilities),
    }
    return _ENVIRONMENT.get_template("report.html").render(
        _common(data),
        summary=_summary(data),
        best={part.name: _best(part) for part in data.parts},
        segments=_segments(scored),
        config=[(name, " ".join(values)) for name, values in _flat(data.config)],
        plots={name: Markup(svg) for name, svg in drawn.items()},  # noqa: S704  # no text of the data is in them
        interval_dot=lambda *ends: Markup(plots.interval_dot(*ends)),  # noqa: S704
    )


def render_log_report(data: LogReport) -> str:
    """Return the page of a scored log, as `render_report` does."""
    scored = data.part
    drawn = _ranking(scored) | {
        "reliability": plots.plot_reliability(scored.labels, scored.probabilities, scored.raw_probabilities),
        "scores": plots.plot_scores(scored.labels, scored.probabilities),
    }
    return _ENVIRONMENT.get_template("log_report.html").render(
        data=data,
        part=scored,
        verdict=verdict(scored),
        METRICS=METRICS,
        summary=f"{scored.metrics.rows:,} labelled rows. Made {shown_time(data.created)}.",
        best={scored.name: _best(scored)},
        segments=_segments(scored),
        plots={name: Markup(svg) for name, svg in drawn.items()},  # noqa: S704  # no text of the data is in them
        interval_dot=lambda *ends: Markup(plots.interval_dot(*ends)),  # noqa: S704
    )


def render_model_card(data: ReportData) -> str:
    """Return the model card, Markdown; text from the data stands in code spans."""
    return _ENVIRONMENT.get_template("model_card.md").render(_common(data), command=_command(data))


def _ranking(scored: Scored) -> dict[str, str]:
    y, curves = scored.labels, [("DeepFM", scored.probabilities)]
    if scored.baseline_probabilities is not None:
        curves.append(("logistic regression", scored.baseline_probabilities))
    areas = [(f"{name}, average {_figure(average_precision(y, p))}", p) for name, p in curves]
    return {
        "roc": plot_roc(y, [(f"{name}, AUC {_figure(auc(y, p))}", p) for name, p in curves]),
        "precision_recall": plot_precision_recall(y, areas),
        "lift": plot_lift(y, curves),
    }


def _common(data: ReportData) -> dict[str, Any]:
    scored = data.parts[-1]
    return {
        "data": data,
        "part": scored,
        "verdict": verdict(scored),
        "data_facts": _data_facts(data),
        "METRICS": METRICS,
    }


def _figure(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else "∞" if value == math.inf else f"{value:.{digits}f}"


def _code(text: str) -> str:
    """Quote text as a Markdown code span that no content can end, not even in a table.

    >>> _code("a`b|c")
    "`a'b/c`"
    """
    return "`" + re.sub(r"\s+", " ", text).replace("`", "'").replace("|", "/") + "`"


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=select_autoescape(["html"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_ENVIRONMENT.filters |= {"figure": _figure, "code": _code, "count": "{:,}".format}


def _summary(data: ReportData) -> str:
    rows = data.data.rows
    parts = ", ".join(f"{n:,} {part}" for part, n in rows.items() if n)
    fields = f"{len(data.fields)} fields, {sum(f.num_rows for f in data.fields):,} table rows"
    window = ", ".join(f"{part} {_span(span)}" for part, span in data.data.window.items())
    window = f" Data window: {window}." if window else ""
    return f"Predicts {data.label}. {sum(rows.values()):,} rows ({parts}); {fields}.{window} Made {shown_time(data.created)}."


def _data_facts(data: ReportData) -> list[tuple[str, str]]:
    window = {part: f", {_span(span)}" for part, span in data.data.window.items()}
    rows = [(part, f"{n:,} rows{window.get(part, '')}") for part, n in data.data.rows.items() if n]
    rates = {"train": data.validation.constant} | {s.name: s.metrics.base_rate for s in data.parts}
    shown = [(f"click rate, {name}", f"{100 * rate:.2f} %") for name, rate in rates.items()]
    return [("files", ", ".join(data.data.files)), *rows, *shown, ("sha256 of the encoded rows", data.data.digest)]


def _span(span: tuple[str, str]) -> str:
    return " to ".join(dict.fromkeys(map(shown_time, span)))


def _command(data: ReportData) -> str:
    """Return the command line that trains this model again; the command has one flag per option of the config."""
    words = ["python", "-m", "models.train", *data.options]
    for name, values in _flat(data.config):
        flag = name.rpartition(".")[2].replace("_", "-")
        switch: dict[tuple[str, ...], list[str]] = {
            ("True",): [f"--{flag}"],
            ("False",): [f"--no-{flag}"],
            ("None",): [],
        }
        words += switch.get(tuple(values), [f"--{flag}", *values])
    return shlex.join(words).replace("\n", " ")  # on one line, so that nothing in it ends the code block


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, list[str]]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, [str(v) for v in value] if isinstance(value, list | tuple) else [str(value)]


def _best(scored: Scored) -> set[tuple[str, str]]:
    # The (predictions, metric) pairs that are the best of a part; the constant does not take part.
    compared = {name: metrics for name, metrics in scored.all_metrics.items() if name != "constant"}
    found = set()
    for attribute in METRICS.values():
        badness = {name: _badness(attribute, metrics) for name, metrics in compared.items()}
        least = min(badness.values())
        found |= {(name, attribute) for name, bad in badness.items() if bad == least < math.inf}
    return found


def _badness(attribute: str, metrics: Metrics) -> float:
    value = getattr(metrics, attribute)
    if value is None:
        return math.inf
    if attribute == "calibration":
        return abs(math.log(value)) if value > 0 else math.inf
    return -value if attribute in ("auc", "gauc") else float(value)


def _segments(scored: Scored) -> dict[str, Any]:
    tables = {field: segment_ratios(scored, values) for field, values in (scored.segments or {}).items()}
    frequent = [r for ratios in tables.values() for r in ratios if r.rows >= 0.01 * len(scored.labels)]
    widest = max((max(r.high, 1 / max(r.low, 1e-9)) for r in frequent), default=1.0)
    limit = next((x for x in AXIS_LIMITS if x >= widest), AXIS_LIMITS[-1])
    labels = f"<span>{1 / limit:.2g}</span><span>1</span><span>{limit:.3g}</span>"
    return {"tables": tables, "limit": limit, "axis": Markup(f'<span class="axis">{labels}</span>')}  # noqa: S704
