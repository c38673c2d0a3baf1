"""Sections of the training report that stand there only when there is something to say: each a function that may give ""."""

from __future__ import annotations

import math
from string import Template

from models.report import plots
from models.report.report_data import ReportData, Scored, segment_ratios
from models.report.template import Html, html, table

METRICS = {
    "log loss": "log_loss",
    "NE": "normalized_entropy",
    "AUC": "auc",
    "GAUC": "gauc",
    "Σp/Σy": "calibration",
    "ECE": "ece",
}
# The dot plots' axis runs from 1/limit to limit: the first that holds the interval of every value with 1 % of the rows.
AXIS_LIMITS = (1.1, 1.25, 1.5, 2.0, 4.0)
AXIS = "axis of the dots"

SEGMENTS = Template("""
<section>
<h2>Calibration by segment, $part</h2>
<p class="soft">Σp/Σy with its 95&nbsp;% interval, on a logarithmic axis. A blue disc: the interval covers 1. An orange
diamond: it does not, so the model promises too much (right) or too little (left) there; an arrow: off the axis. Rows count as independent;
clicks of one user are not quite, so the truth is a little wider.</p>
<div class="grid">$tables</div>
</section>
""")

COLD_STARTS = Template("""
<section>
<h2>Cold start, $part</h2>
<p class="soft">Unseen: training kept no token for the row's user, or item, so it is scored by the out-of-vocabulary row and the
other fields.</p>
$table
</section>
""")

CHAMPION = Template("""
<section>
<h2>Beside $champion, $part</h2>
<p class="soft">The same rows, scored by the previous artifact's own encoder, model and calibration. Differences with their 95&nbsp;%
interval by paired bootstrap: both models on the same resamples, groups drawn whole. Bold: the interval does not hold zero.
Where the previous artifact has learnt from these rows it looks better than it is. Its data: $window.</p>
$table
</section>
""")

IMPORTANCE = Template("""
<section>
<h2>What each field contributes, $part</h2>
<p class="soft">By how much the log loss rises, in nats per impression, when a field's values are shuffled across
$rows impressions and all else stays: permutation importance. ± is the 95&nbsp;% interval, impressions taken as
independent. Near zero: the model does as well without this field's values, because they say little or because others say the same.</p>
$table
<p class="soft">$rest</p>
</section>
""")


def cell(value: float | None, digits: int = 4) -> str:
    """Return a figure as the report shows it; a metric that cannot be told is a dash."""
    return "–" if value is None else "∞" if value == math.inf else f"{value:.{digits}f}"


def segments(scored: Scored) -> str:
    """Lay out Σp/Σy by the values of each segment field."""
    found = {field: segment_ratios(scored, values) for field, values in (scored.segments or {}).items()}
    if not found:
        return ""
    frequent = [r for ratios in found.values() for r in ratios if r.rows >= 0.01 * len(scored.labels)]
    widest = max((max(r.high, 1 / max(r.low, 1e-9)) for r in frequent), default=1.0)
    limit = next((x for x in AXIS_LIMITS if x >= widest), AXIS_LIMITS[-1])
    axis = f'<span class="axis"><span>{1 / limit:.2g}</span><span>1</span><span>{limit:.3g}</span></span>'
    tables = []
    for field, ratios in found.items():
        rows = [
            [
                Html(f'<span class="name" title="{html(r.value)}">{html(r.value)}</span>'),
                *map(html, (f"{r.rows:,}", f"{100 * r.click_rate:.2f}", cell(r.ratio, 3))),
                Html(plots.interval_dot(r.low, r.ratio, r.high, limit)),
            ]
            for r in ratios
        ]
        lines = table(("value", "rows", "clicked, %", "Σp/Σy", AXIS), rows, "segments").replace(AXIS, axis)
        tables.append(f"<div><h3>{html(field)}</h3>{lines}</div>")
    return SEGMENTS.substitute(part=html(scored.name), tables="\n".join(tables))


def cold_starts(scored: Scored) -> str:
    """Lay out the metrics of rows with an unseen user or item, and of the others."""
    if not scored.cold_starts:
        return ""
    shown = {name: a for name, a in METRICS.items() if a != "gauc"}
    rows = [
        [
            html(name),
            html(f"{m.rows:,}"),
            html(f"{100 * m.base_rate:.2f}"),
            *(html(cell(getattr(m, a))) for a in shown.values()),
        ]
        for name, m in scored.cold_starts.items()
    ]
    lines = table(("rows with a", "rows", "clicked, %", *shown), rows)
    return COLD_STARTS.substitute(part=html(scored.name), table=lines)


def champion(scored: Scored) -> str:
    """Lay out the metrics beside those of a previous artifact."""
    if scored.champion is None:
        return ""
    rows = []
    for name, attribute in METRICS.items():
        ends = scored.champion_intervals.get(attribute)
        new, old = getattr(scored.metrics, attribute), getattr(scored.champion_metrics, attribute)
        difference = "–" if new is None or old is None else f"{new - old:+.4f}"
        interval = "–" if ends is None else f"{ends[0]:+.4f} to {ends[1]:+.4f}"
        is_clear = ends is not None and not ends[0] <= 0 <= ends[1]
        cells = (Html(f"<b>{html(text)}</b>") if is_clear else html(text) for text in (difference, interval))
        rows.append([html(name), html(cell(new)), html(cell(old)), *cells])
    header = ("", "this model", "previous", "difference", "95 % interval")
    return CHAMPION.substitute(
        champion=html(scored.champion.model_version),
        part=html(scored.name),
        window=html(scored.champion.window),
        table=table(header, rows, "segments"),
    )


def importance(data: ReportData) -> str:
    """Lay out what each field contributes, the most first."""
    if not data.importance:
        return ""
    most = max(*(i.rise for i in data.importance), 1e-12)
    clear = [i for i in data.importance if i.rise > i.error]
    rows = [
        [
            Html(f'<span class="name" title="{html(i.field)}">{html(i.field)}</span>'),
            html(f"{i.rise:.5f}"),
            html(f"± {i.error:.5f}"),
            Html(f'<span class="bar"><i style="width:{100 * i.rise / most:.1f}%"></i></span>'),
        ]
        for i in clear
    ]
    rest = ", ".join(i.field for i in data.importance if i.rise <= i.error)
    return IMPORTANCE.substitute(
        part=html(data.parts[-1].name),
        rows=f"{data.importance_rows:,}",
        table=table(("field", "log loss rises by", "", ""), rows, "importance"),
        rest=html(f"Not told from zero: {rest}." if rest else ""),
    )
