"""What each field of a prepared log becomes, and how much of it is missing or unseen."""

from __future__ import annotations

from models.data.preparation import Prepared
from models.evaluation.field_drift import field_drifts
from models.report.report_data import FieldFacts
from models.schema.feature_schema import FieldSpec


def field_facts(prepared: Prepared) -> list[FieldFacts]:
    """Return a row for each field, in the schema's order."""
    encoder = prepared.encoder
    unseen = {name: h.special[1] / h.num_values for name, h in prepared.held_out.items()}
    missing = prepared.missing / len(prepared.labels)
    last = list(prepared.held_out.values())[-1].part.load()
    drifts = field_drifts(encoder, prepared.train[0].load().rows, last.rows)
    facts = []
    for i, field in enumerate(prepared.schema.fields):
        tokens = encoder.schema.num_tokens[field.block]
        own = encoder.schema.row_blocks[i] == field.name
        facts.append(
            FieldFacts(
                name=field.name,
                kind=field.kind,
                side=field.side,
                encoding=_encoding(field),
                num_values=None if field.buckets else tokens,
                num_rows=tokens + 2 if own else 0,
                missing=float(missing[i]),
                # Every token of a hashed field has a row, and every number a bin.
                unseen={}
                if field.buckets or field.kind == "numeric"
                else {name: float(u[i]) for name, u in unseen.items()},
                drift=drifts[i],
            )
        )
    return facts


def _encoding(field: FieldSpec) -> str:
    if field.kind == "numeric":
        return f"{field.bins} quantile bins"
    if field.vocabulary is not None:
        return f"shares {field.vocabulary}"
    if field.buckets is not None:
        return f"hashed into {field.buckets:,} rows"
    return "every token seen" if field.min_count == 1 else f"tokens seen {field.min_count} times or more"
