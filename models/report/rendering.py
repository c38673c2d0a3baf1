"""The training report: one self-contained HTML page, and the model card in Markdown, from plain arrays and names.

Pure: no clock, no file, no network; the same data gives the same bytes.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from models.evaluation.metrics import Metrics
from models.report import plots
from models.report.report_data import ChampionScores, FieldFacts, ReportData, Scored, data_facts, span_text, verdict
from models.report.sections import METRICS, cell, champion, cold_starts, importance, segments
from models.report.template import CARD, PAGE, STYLE, Html, bar, code, facts, html, table

__all__ = ["ChampionScores", "FieldFacts", "ReportData", "Scored", "render_model_card", "render_report"]


def render_report(data: ReportData) -> str:
    """Return the page, HTML without script or outside reference."""
    scored = data.parts[-1]
    text, is_good = verdict(scored)
    validation_baseline = data.validation.baseline_metrics
    sources = [("DeepFM", scored.probabilities, scored.metrics)]
    if scored.baseline_probabilities is not None and scored.baseline_metrics is not None:
        sources.append(("logistic regression", scored.baseline_probabilities, scored.baseline_metrics))
    curves = [(f"{name}, AUC {cell(m.auc)}", p) for name, p, m in sources]
    return PAGE.substitute(
        style=STYLE,
        model_version=html(data.model_version),
        summary=html(_summary(data)),
        verdict=html(text),
        verdict_class="" if is_good else "warn",
        tiles="".join(_tiles(scored)),
        part=html(scored.name),
        metrics=_metrics_table(data.parts),
        learning=plots.plot_learning(
            data.history, data.best_epoch, None if validation_baseline is None else validation_baseline.log_loss
        ),
        roc=plots.plot_roc(scored.labels, curves),
        calibration=html(data.calibration),
        reliability=plots.plot_reliability(scored.labels, scored.probabilities, scored.raw_probabilities),
        scores=plots.plot_scores(scored.labels, scored.probabilities),
        champion=champion(scored),
        importance=importance(data),
        segments=segments(scored),
        cold_starts=cold_starts(scored),
        fields=_fields_table(data),
        data=facts(data_facts(data)),
        epochs=_epochs_table(data),
        config=facts((name, " ".join(values)) for name, values in _flat(data.config)),
        environment=facts(data.environment.items()),
    )


def render_model_card(data: ReportData) -> str:
    """Return the model card, Markdown; names from the data stand in code spans, which nothing in them can leave."""
    header, rows = ("part", "predictions", *METRICS), []
    for scored in data.parts:
        rows += [[scored.name, name, *_cells(m)] for name, m in scored.all_metrics.items()]
    lines = [header, ["---", "---", *["---:"] * len(METRICS)], *rows]
    return CARD.substitute(
        model_version=data.model_version,
        verdict=verdict(data.parts[-1])[0],
        label=code(data.label),
        data="\n".join(f"* {name}: {code(value)}" for name, value in data_facts(data)),
        metrics="\n".join(f"| {' | '.join(line)} |" for line in lines),
        calibration=data.calibration,
        command=_command(data),
        environment="\n".join(f"* {name}: {code(value)}" for name, value in data.environment.items()),
    )


def _summary(data: ReportData) -> str:
    rows = data.data.rows
    parts = ", ".join(f"{n:,} {part}" for part, n in rows.items() if n)
    fields = f"{len(data.fields)} fields, {sum(f.num_rows for f in data.fields):,} table rows"
    window = "".join(f" {part} {span_text(span)}," for part, span in data.data.window.items()).rstrip(",")
    window = f" Data window:{window}." if window else ""
    return f"Predicts {data.label}. {sum(rows.values()):,} rows ({parts}); {fields}.{window} Made {data.created}."


def _command(data: ReportData) -> str:
    """Return the command line that trains this model again; `models.train` has one flag per option of the config."""
    words = ["python", "-m", "models.train", "--data", *data.data.files, "--schema", "schema.toml"]
    for name, values in _flat(data.config):
        flag = name.rpartition(".")[2].replace("_", "-")
        switch: dict[tuple[str, ...], list[str]] = {
            ("True",): [f"--{flag}"],
            ("False",): [f"--no-{flag}"],
            ("None",): [],
        }
        words += switch.get(tuple(values), [f"--{flag}", *values])
    return shlex.join(words).replace("\n", " ")  # on one line, nothing in it can end the code block


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, list[str]]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, [str(v) for v in value] if isinstance(value, list | tuple) else [str(value)]


def _cells(metrics: Metrics) -> list[str]:
    return [cell(getattr(metrics, attribute)) for attribute in METRICS.values()]


def _metrics_table(parts: Sequence[Scored]) -> Html:
    rows: list[list[Html]] = []
    for scored in parts:
        title = f"{scored.name}, {scored.metrics.rows:,} rows, click rate {100 * scored.metrics.base_rate:.2f} %"
        rows.append([Html(f"<b>{html(title)}</b>"), *[Html("")] * len(METRICS)])
        contest = {name: m for name, m in scored.all_metrics.items() if name != "constant"}
        best = {a: min(_badness(a, m) for m in contest.values()) for a in METRICS.values()}
        for name, m in scored.all_metrics.items():
            is_best = [name in contest and _badness(a, m) == best[a] < math.inf for a in METRICS.values()]
            cells = zip(_cells(m), is_best, strict=True)
            rows.append([html(name), *(Html(f"<b>{cell}</b>" if bold else cell) for cell, bold in cells)])
    return table(("", *METRICS), rows)


def _badness(attribute: str, metrics: Metrics) -> float:
    """Smaller is better; infinity cannot be the best."""
    value = getattr(metrics, attribute)
    if value is None:
        return math.inf
    if attribute == "calibration":
        return abs(math.log(value)) if value > 0 else math.inf
    return -value if attribute in ("auc", "gauc") else float(value)


def _tiles(scored: Scored) -> Iterator[str]:
    for name, attribute in METRICS.items():
        value, other = getattr(scored.metrics, attribute), getattr(scored.baseline_metrics, attribute, None)
        if value is not None:
            ends = scored.intervals.get(attribute)
            note = "" if ends is None else f"<span>{cell(ends[0])} to {cell(ends[1])}</span>"
            note += "" if other is None else f"<span>baseline {cell(other)}</span>"
            yield f'<div class="tile"><span>{name}</span><b>{cell(value)}</b>{note}</div>'


def _fields_table(data: ReportData) -> Html:
    parts = [s.name for s in data.parts]
    header = (
        "field",
        "kind",
        "side",
        "encoding",
        "values kept",
        "table rows",
        "missing, %",
        *(f"unseen, {p}, %" for p in parts),
    )
    rows = [
        [
            Html(f'<span class="name" title="{html(f.name)}">{html(f.name)}</span>'),
            *map(html, (f.kind, f.side, f.encoding)),
            html("–" if f.num_values is None else f"{f.num_values:,}"),
            html(f"{f.num_rows:,}"),
            *map(bar, (f.missing, *(f.unseen.get(p) for p in parts))),
        ]
        for f in data.fields
    ]
    return table(header, rows, num_text=4)


def _epochs_table(data: ReportData) -> Html:
    header = ("epoch", "train loss", "validation loss", "rows/s", "seconds")
    rows = (
        (f"{e.epoch}{' (kept)' if e.epoch == data.best_epoch else ''}", f"{e.train_log_loss:.4f}",
         f"{e.validation_log_loss:.4f}", f"{e.rows_per_s:,.0f}", f"{e.seconds:,.1f}")
        for e in data.history
    )  # fmt: skip
    return table(header, ([html(cell) for cell in row] for row in rows))
