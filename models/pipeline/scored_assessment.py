"""Assesses a scored log that has labels: the metrics and the data of its page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import numpy as np
import polars as pl

from models.artifact.artifact import Artifact
from models.evaluation.cold_start import metrics_of_cold
from models.network.calibration import sigmoid
from models.pipeline.scoring import COLD, LABEL, LOGIT, ScoredLog
from models.report.conclusions import describe_calibration, describe_sampling
from models.report.report_data import LogField, LogReport, Scored

MAX_ROWS = 1_000_000
"""Rows that metrics and intervals are computed of; of a longer log, those of a random share of its groups."""
MISSING_SEGMENT = "(missing)"


def assess_log(scored: ScoredLog, artifact: Artifact) -> LogReport | None:
    """Return the data of a scored log's page; ``None`` if no row has a label."""
    schema = artifact.schema.features
    rows, share = _labelled_rows(scored, None if schema.group is None else f"\0{schema.group}")
    if rows.is_empty():
        return None
    labels, logits = rows[LABEL].to_numpy(), rows[LOGIT].to_numpy()
    calibration = artifact.predictor.calibration
    probabilities = calibration.of_log(logits)
    trained = list(artifact.manifest.metrics.values())
    rate = trained[-1]["base_rate"] if trained else None
    group = f"\0{schema.group}"
    cold = {name.removeprefix(COLD): rows[name].to_numpy() for name in rows.columns if name.startswith(COLD)}
    part = Scored(
        name="the scored log",
        labels=labels,
        probabilities=probabilities,
        raw_probabilities=sigmoid(logits.astype(np.float64)),
        constant=float(labels.mean() if rate is None else rate),
        groups=rows[group].rank("dense").fill_null(0).to_numpy() if group in rows.columns else None,
        segments={s: rows[f"\0{s}"].fill_null(MISSING_SEGMENT).to_list() for s in schema.segments},
        cold_starts=metrics_of_cold(cold, labels, probabilities),
    )
    fields = []
    for field in schema.fields:
        values = max(scored.values[field.name], 1)
        can_be_unseen = field.kind != "numeric" and field.buckets is None
        unseen = scored.unseen[field.name] / values if can_be_unseen else None
        fields.append(LogField(field.name, field.kind, field.side, scored.missing[field.name] / values, unseen))
    return LogReport(
        model_version=artifact.model_version,
        created=datetime.now(UTC).replace(microsecond=0).isoformat(),
        part=part,
        calibration=f"{describe_calibration(calibration)}{describe_sampling(calibration)}",
        trained=artifact.manifest.metrics,
        fields=fields,
        facts=_facts(scored, rows.height, share, len(schema.fields)),
    )


def _labelled_rows(scored: ScoredLog, group: str | None) -> tuple[pl.DataFrame, int]:
    # The labelled rows, or those of one in so many groups.
    lazy = pl.scan_parquet(scored.parts.paths())
    names = [name for name in lazy.collect_schema().names() if name.startswith("\0")]
    lazy = lazy.select(names).filter(pl.col(LABEL).is_not_null())
    share = -(-int(lazy.select(pl.len()).collect().item()) // MAX_ROWS)
    if share > 1:
        key = pl.col(group) if group in names else pl.int_range(pl.len())
        lazy = lazy.filter(key.hash(seed=0) % share == 0)
    return lazy.collect(), share


def _facts(scored: ScoredLog, rows: int, share: int, num_fields: int) -> Mapping[str, str]:
    shown = [path.name for path in scored.files[:20]]
    more = len(scored.files) - len(shown)
    sample = f"; metrics are of a random 1 in {share} of the groups, or of the rows without groups" if share > 1 else ""
    return {
        "files": ", ".join(shown) + (f" and {more} more" if more else ""),
        "rows": f"{scored.rows:,}",
        "rows with a label": f"{rows:,}{sample}",
        "fields": str(num_fields),
    }
