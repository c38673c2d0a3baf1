"""The training report: one self-contained HTML page, and the model card in Markdown, from plain arrays and names.

Pure: no clock, no file, no network; the same data gives the same bytes.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import report_plots as plots
from models.learner import Epoch
from models.manifest import DataFacts
from models.metrics import Z_95, Floats, Labels, Metrics, calibration_interval, calibration_ratio, evaluate, log_losses
from models.report_template import CARD, PAGE, SEGMENTS, STYLE, Html, bar, code, facts, html, table

NUM_SEGMENT_VALUES = 12
AXIS_LIMITS = (1.25, 1.5, 2.0, 4.0)


@dataclass(frozen=True)
class Scored:
    """One part of the log, scored.

    Args:
        name: ``validation`` or ``test``.
        labels: 0 or 1, [B].
        probabilities: the model's, calibrated for the log as it is, float64 [B].
        raw_probabilities: σ(logit), before calibration, float64 [B].
        constant: the click rate of the training rows, the simplest prediction.
        baseline_probabilities: the logistic regression's, float64 [B].
        groups: the group of each row for GAUC, [B].
        segments: by field, the value of each row, [B].
    """

    name: str
    labels: Labels
    probabilities: Floats
    raw_probabilities: Floats
    constant: float
    baseline_probabilities: Floats | None = None
    groups: NDArray[Any] | None = None
    segments: Mapping[str, Sequence[str]] | None = None

    @cached_property
    def metrics(self) -> Metrics:
        """Of the calibrated model: what the manifest holds."""
        return evaluate(self.labels, self.probabilities, self.groups)

    @cached_property
    def baseline_metrics(self) -> Metrics | None:
        """Of the logistic regression."""
        p = self.baseline_probabilities
        return None if p is None else evaluate(self.labels, p, self.groups)

    @cached_property
    def all_metrics(self) -> Mapping[str, Metrics]:
        """Of everything that is compared, by the name it has in the report."""
        named = {"DeepFM, calibrated": self.metrics, "DeepFM, raw": evaluate(self.labels, self.raw_probabilities, self.groups)}
        if self.baseline_metrics is not None:
            named["logistic regression"] = self.baseline_metrics
        return named | {"constant": evaluate(self.labels, np.full(len(self.labels), self.constant), self.groups)}


@dataclass(frozen=True)
class FieldFacts:
    """One row of the table of fields.

    Args:
        name: as in the schema.
        kind: as in the schema.
        side: as in the schema.
        encoding: in words, such as ``seen twice or more``, ``20 bins`` or ``shares video_id``.
        num_values: distinct values (bins) kept; ``None`` when hashed.
        num_rows: rows of the table that this field adds.
        missing: share of missing training values.
        unseen: by part, share of values on the out-of-vocabulary row; a part left out shows a dash.
    """

    name: str
    kind: str
    side: str
    encoding: str
    num_values: int | None
    num_rows: int
    missing: float
    unseen: Mapping[str, float]


@dataclass(frozen=True)
class ReportData:
    """Everything that the report says.

    Args:
        model_version: of the artifact.
        created: UTC, ISO 8601.
        label: name of the label's column.
        data: files, rows and window by part.
        validation: scored.
        test: scored, where there is one; else validation is what the headline speaks of.
        history: one entry per epoch.
        best_epoch: the one kept.
        fields: in the schema's order.
        calibration: how it was fitted, one or two sentences.
        config: of the training, possibly nested.
        environment: versions, sizes, times: name → text.
    """

    model_version: str
    created: str
    label: str
    data: DataFacts
    validation: Scored
    test: Scored | None
    history: Sequence[Epoch]
    best_epoch: int
    fields: Sequence[FieldFacts]
    calibration: str
    config: Mapping[str, Any]
    environment: Mapping[str, str]

    @property
    def parts(self) -> tuple[Scored, ...]:
        """The scored parts, the one that counts last."""
        return (self.validation,) if self.test is None else (self.validation, self.test)


def render_report(data: ReportData) -> str:
    """Return the page, HTML without script or outside reference."""
    scored = data.parts[-1]
    text, is_good = verdict(scored)
    validation_baseline = data.validation.baseline_metrics
    sources = [("DeepFM", scored.probabilities, scored.metrics)]
    if scored.baseline_probabilities is not None and scored.baseline_metrics is not None:
        sources.append(("logistic regression", scored.baseline_probabilities, scored.baseline_metrics))
    curves = [(f"{name}, AUC {_number(m.auc)}", p) for name, p, m in sources]
    return PAGE.substitute(
        style=STYLE,
        model_version=html(data.model_version),
        summary=html(_summary(data)),
        verdict=html(text),
        verdict_class="" if is_good else "warn",
        tiles="".join(_tiles(scored)),
        part=html(scored.name),
        metrics=_metrics_table(data.parts),
        learning=plots.plot_learning(data.history, data.best_epoch, validation_baseline and validation_baseline.log_loss),
        roc=plots.plot_roc(scored.labels, curves),
        calibration=html(data.calibration),
        reliability=plots.plot_reliability(scored.labels, scored.probabilities, scored.raw_probabilities),
        scores=plots.plot_scores(scored.labels, scored.probabilities),
        segments=_segments(scored),
        fields=_fields_table(data),
        data=facts(_data_facts(data)),
        epochs=table(
            ("epoch", "training", "validation", "rows/s", "seconds"),
            ([html(str(e.epoch)), *map(html, (f"{e.train_log_loss:.4f}", f"{e.validation_log_loss:.4f}", f"{e.rows_per_s:,.0f}", f"{e.seconds:,.1f}"))] for e in data.history),
        ),
        config=facts(_flat(data.config)),
        environment=facts(data.environment.items()),
    )


def render_model_card(data: ReportData) -> str:
    """Return the model card, Markdown; names from the data stand in code spans, which nothing in them can leave."""
    header, rows = ("part", "predictions", *METRIC_NAMES), []
    for scored in data.parts:
        rows += [[scored.name, name, *_metric_cells(m)] for name, m in scored.all_metrics.items()]
    lines = [header, ["---", "---", *["---:"] * len(METRIC_NAMES)], *rows]
    flags = [f"--{k.rpartition('.')[2].replace('_', '-')} {v}" for k, v in _flat(data.config)]
    files = " ".join(shlex.quote(f) for f in data.data.files)
    return CARD.substitute(
        model_version=data.model_version,
        verdict=verdict(data.parts[-1])[0],
        label=code(data.label),
        data="\n".join(f"* {name}: {code(value)}" for name, value in _data_facts(data)),
        metrics="\n".join(f"| {' | '.join(line)} |" for line in lines),
        calibration=data.calibration,
        command=f"python -m models.train --data {files} --schema schema.toml {' '.join(flags)}".replace("`", "'"),
        environment="\n".join(f"* {name}: {code(value)}" for name, value in data.environment.items()),
    )


def verdict(scored: Scored) -> tuple[str, bool]:
    """Say in a sentence or two how good the model is; and whether it beats its rival and its calibration covers 1."""
    rival, p = "logistic regression", scored.baseline_probabilities
    if p is None:
        rival, p = "constant", np.full(len(scored.labels), scored.constant)
    gains = log_losses(scored.labels, p) - log_losses(scored.labels, scored.probabilities)
    gain, error = float(gains.mean()), Z_95 * float(gains.std()) / float(np.sqrt(len(gains)))
    share = abs(gain) / log_loss(scored.labels, p)
    size = f"{abs(gain):.4f} nats of log loss ({100 * share:.1f} %; 95 % interval {gain - error:+.4f} to {gain + error:+.4f})"
    if abs(gain) <= error:
        first = f"On {scored.name} the model is on a par with the {rival}: a difference of {size}."
    else:
        first = f"On {scored.name} the model {'beats' if gain > 0 else 'loses to'} the {rival} by {size}."
    low, high = calibration_interval(scored.labels, scored.probabilities)
    kept = low <= 1 <= high
    total = f"total calibration Σp/Σy is {scored.metrics.calibration:.3f} (95 % interval {low:.3f} to {high:.3f})"
    return f"{first} Its {total}{'.' if kept else ', which is not 1.'}", gain > error and kept


def _summary(data: ReportData) -> str:
    rows = data.data.rows
    parts = ", ".join(f"{n:,} {part}" for part, n in rows.items() if n)
    fields = f"{len(data.fields)} fields, {sum(f.num_rows for f in data.fields):,} table rows"
    window = "".join(f" {part} {_span(span)}," for part, span in data.data.window.items()).rstrip(",")
    window = f" Data window:{window}." if window else ""
    return f"Predicts {data.label}. {sum(rows.values()):,} rows ({parts}); {fields}.{window} Made {data.created}."


def _span(span: tuple[str, str]) -> str:
    return " to ".join(dict.fromkeys(span))


def _data_facts(data: ReportData) -> list[tuple[str, str]]:
    window = {part: f", {_span(span)}" for part, span in data.data.window.items()}
    rows = [(part, f"{n:,} rows{window.get(part, '')}") for part, n in data.data.rows.items() if n]
    rates = [(f"click rate, {s.name}", f"{100 * s.metrics.base_rate:.2f} %") for s in data.parts]
    rates.insert(0, ("click rate, train", f"{100 * data.validation.constant:.2f} %"))
    return [("files", ", ".join(data.data.files)), *rows, *rates, ("sha256 of the encoded rows", data.data.digest)]


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _cells(metrics: Metrics) -> list[str]:
    return [_cell(getattr(metrics, attribute)) for attribute in METRICS.values()]


def _metrics_table(parts: Sequence[Scored]) -> Html:
    rows: list[list[Html]] = []
    for scored in parts:
        title = f"{scored.name}, {scored.metrics.rows:,} rows, click rate {100 * scored.metrics.base_rate:.2f} %"
        rows.append([Html(f"<b>{html(title)}</b>"), *[Html("")] * len(METRICS)])
        best = {a: min(_badness(a, m) for m in scored.all_metrics.values()) for a in METRICS.values()}
        for name, m in scored.all_metrics.items():
            cells = zip(METRICS.values(), _cells(m), strict=True)
            rows.append([html(name), *(Html(f"<b>{c}</b>" if _badness(a, m) == best[a] < 9 else c) for a, c in cells)])
    return table(("", *METRICS), rows)


def _badness(attribute: str, metrics: Metrics) -> float:
    """Smaller is better; 9 and more cannot be the best."""
    value = getattr(metrics, attribute)
    if value is None:
        return 9.0
    if attribute == "calibration":
        return abs(float(np.log(value))) if value > 0 else 9.0
    return -value if attribute in ("auc", "gauc") else float(value)


def _tiles(scored: Scored) -> Iterator[str]:
    for name, attribute in METRICS.items():
        value, other = getattr(scored.metrics, attribute), getattr(scored.baseline_metrics, attribute, None)
        if value is not None:
            note = "" if other is None else f"<span>regression {other:.4f}</span>"
            yield f'<div class="tile"><span>{name}</span><b>{value:.4f}</b>{note}</div>'


def _segments(scored: Scored) -> str:
    found = {field: segment_ratios(scored, values) for field, values in (scored.segments or {}).items()}
    if not found:
        return ""
    ends = [x for rows in found.values() for r in rows for x in (1 / max(r.low, 1e-9), r.high)]
    limit = next((x for x in AXIS_LIMITS if np.mean(np.array(ends) <= x) >= 0.9), AXIS_LIMITS[-1])
    axis = f'<span class="axis"><span>{1 / limit:.2g}</span><span>1</span><span>{limit:.3g}</span></span>'
    tables = []
    for field, ratios in found.items():
        rows = [
            [
                Html(f'<span class="name" title="{html(r.value)}">{html(r.value)}</span>'),
                *map(html, (f"{r.rows:,}", f"{100 * r.click_rate:.2f}", f"{r.ratio:.3f}")),
                Html(plots.interval_dot(r.low, r.ratio, r.high, limit)),
            ]
            for r in ratios
        ]
        lines = table(("value", "rows", "clicked, %", "Σp/Σy", AXIS), rows, "segments").replace(AXIS, axis)
        tables.append(f"<div><h3>{html(field)}</h3>{lines}</div>")
    return SEGMENTS.substitute(part=html(scored.name), tables="\n".join(tables))


def _fields_table(data: ReportData) -> Html:
    parts = [s.name for s in data.parts]
    header = ("field", "kind", "side", "encoding", "values kept", "table rows", "missing, %", *(f"unseen, {p}, %" for p in parts))
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
