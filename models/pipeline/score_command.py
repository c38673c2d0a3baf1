"""The command ``score``: parses options, prints, and calls `models.pipeline.scoring`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from models.command_line.interrupts import quiet_interrupts

if TYPE_CHECKING:
    from models.pipeline.scoring import ScoredLog
    from models.report.report_data import LogReport

EXAMPLE = "Example: `ctrserve score --data 'logs/day-7.parquet' --artifact artifacts --keep user_id ad_id --out scores.parquet`"


def score_command(
    *,
    data: Annotated[list[str], Option(metavar="LOG...", help="Files of the log, or glob patterns.")],
    artifact: Annotated[
        Path, Option(metavar="DIR", help="Directory of artifacts, whose current one is used, or of one artifact.")
    ] = Path("artifacts"),
    out: Annotated[Path, Option(metavar="FILE", help="The result, .parquet or .csv.")] = Path("scores.parquet"),
    keep: Annotated[
        list[str] | None,
        Option(metavar="COLUMN...", help="Columns of the log to write too; '*' for all. Rows are in the log's order."),
    ] = None,
    as_json: Annotated[bool, Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Score the files of a log: a probability and the model's version for each row.

    Probabilities are those that the service answers, to the bit. The log may be larger than memory; a run that was stopped
    goes on when the same command is given again. Where the log has the label, the metrics are printed, and a page about
    that log is written beside the result.
    """
    with quiet_interrupts():
        from models.artifact.artifact import load_artifact
        from models.artifact.current import find_artifact
        from models.pipeline.progress import RowsBar
        from models.pipeline.scored_assessment import assess_log
        from models.pipeline.scoring import score_log
        from models.report.rendering import render_log_report

    started = time.monotonic()
    found = find_artifact(artifact)
    model = load_artifact(found.directory, found.current.manifest_sha256, num_threads=2)
    bar = RowsBar("scoring")
    try:
        scored = score_log(model, data, out, keep or [], bar)
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the same command goes on from the last complete part\n")
        raise
    finally:
        bar.close()
    seconds = time.monotonic() - started
    report = assess_log(scored, model) if scored.has_labels else None
    page = None if report is None else out.with_suffix(".html")
    if report is not None and page is not None:
        page.write_text(render_log_report(report), encoding="utf-8")
    scored.parts.remove()
    if as_json:
        print(json.dumps(_described(scored, report, out, page, model.model_version, seconds), indent=2))
    else:
        print("\n".join(_summary(scored, report, out, page, model.model_version, seconds)))


def _described(
    scored: ScoredLog, report: LogReport | None, out: Path, page: Path | None, version: str, seconds: float
) -> dict[str, object]:
    return {
        "out": str(out),
        "report": None if page is None else str(page),
        "model_version": version,
        "rows": scored.rows,
        "resumed_rows": scored.resumed_rows,
        "seconds": round(seconds, 3),
        "missing": {name: n for name, n in scored.missing.items() if n},
        "unseen": {name: n for name, n in scored.unseen.items() if n},
        "metrics": None if report is None else report.part.metrics.model_dump(),
    }


def _summary(
    scored: ScoredLog, report: LogReport | None, out: Path, page: Path | None, version: str, seconds: float
) -> list[str]:
    from models.pipeline.train_command import METRICS_HEADER, metrics_line

    lines = []
    if report is not None:
        lines += [METRICS_HEADER, metrics_line("this log", report.part.metrics.model_dump())]
        lines += [metrics_line(f"{name}, when trained", metrics) for name, metrics in report.trained.items()]
    resumed = f", {scored.resumed_rows:,} of them by an earlier run" if scored.resumed_rows else ""
    lines.append(f"scores    {out}: {scored.rows:,} rows by {version} in {seconds:.1f} s{resumed}")
    for title, counts in (("missing", scored.missing), ("unseen", scored.unseen)):
        most = sorted(((n / scored.values[name], name) for name, n in counts.items() if n), reverse=True)[:5]
        if most:
            lines.append(f"{title:10}" + ", ".join(f"{name} {100 * share:.2f} %" for share, name in most))
    if page is not None:
        lines.append(f"report    {page}")
    elif scored.has_labels:
        lines.append("no row has a label, so there are no metrics")
    return lines
