"""How a model shows itself in a notebook: fields, metrics and the reliability plot."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files

from ctrserve.report import Report, framed
from models.artifact.artifact import Artifact
from models.evaluation.metric_names import METRICS

MIN_HEIGHT_PX, ROW_PX = 620, 33


def describe_in_html(artifact: Artifact, report: Report) -> str:
    """Return HTML for a notebook's cell."""
    style = files("models.report").joinpath("templates/report.css").read_text(encoding="utf-8")
    manifest, schema = artifact.manifest, artifact.schema
    metrics = [
        [part, f"{values['rows']:,}", *(_figure(values.get(key)) for key in METRICS.values())]
        for part, values in manifest.metrics.items()
    ]
    fields = [
        [field.name, field.kind, field.side, fitted.dtype or "number", f"{schema.num_tokens[field.block]:,}"]
        for field, fitted in zip(schema.features.fields, schema.fitted, strict=True)
    ]
    plot = report.figure("reliability")
    rows = sum(manifest.data.rows.values())
    facts = (
        f"Predicts {schema.features.label}; {rows:,} rows; {manifest.table_rows:,} table rows of "
        f"{manifest.model.embedding_dim} numbers; made {manifest.created}."
    )
    body = [
        f"<h1>{escape(artifact.model_version)}</h1>",
        f'<p class="soft">{escape(facts)}</p>',
        _table(["part", "rows", *METRICS], metrics),
        '<div class="grid">',
        f"<div>{_table(['field', 'kind', 'side', 'type', 'values'], fields)}</div>",
        f"<figure>{plot}</figure>" if plot else "",
        "</div>",
    ]
    height = min(max(MIN_HEIGHT_PX, 300 + ROW_PX * len(fields)), 1_000)
    head = f'<meta charset="utf-8"><meta name="color-scheme" content="light dark"><style>{style}</style>'
    return framed(f"<!doctype html><html><head>{head}</head><body><main>{''.join(body)}</main></body></html>", height)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th{' class=text' if i == 0 else ''}>{escape(name)}</th>" for i, name in enumerate(header))
    body = "".join(
        "<tr>"
        + "".join(f"<td{' class=text' if i == 0 else ''}>{escape(cell)}</td>" for i, cell in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
