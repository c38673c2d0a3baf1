"""``ctrserve explain``: why rows of a file have the probabilities that they have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from rich.table import Table
from typer import Option

EXAMPLE = "Example: `ctrserve explain --data logs/day-7.parquet --first 100 --rows 2 --artifact artifacts`"
MAX_SHOWN = 12
"""Contributions that the table of a row names; the others are one line."""


def explain_command(
    *,
    data: Annotated[Path, Option(metavar="FILE", help="A file of a log; the label's column is not needed.")],
    artifact: Annotated[
        Path, Option(metavar="DIR", help="Directory of artifacts, whose current one is used, or of one artifact.")
    ] = Path("artifacts"),
    first: Annotated[int, Option(metavar="N", min=0, help="Rows of the file to skip. (default: 0)")] = 0,
    rows: Annotated[int, Option(metavar="N", min=1, help="Rows to explain. (default: 1)")] = 1,
    as_json: Annotated[bool, Option("--json", help="Print what `POST /explain` answers.")] = False,
) -> None:
    """Explain the probabilities of some rows of a file.

    The logit is a sum: a bias, each field's first order, the inner product of every pair of fields, and the deep part, which
    integrated gradients distribute over the fields. Calibration makes the probability of it.
    """
    from ctrserve.model import load
    from models.data.frames import FrameFile

    model = load(artifact)
    schema = model.artifact.schema.features
    file = FrameFile(data, schema.log, [], [field.name for field in schema.fields])
    found = model.explain(file.rows(first, rows))
    if as_json:
        print(json.dumps(found))
        return
    console = Console()
    for row, explanation in enumerate(found["explanations"], first):
        console.print(_table(row, found, explanation))


def _table(row: int, found: dict[str, Any], explanation: dict[str, Any]) -> Table:
    """Return the contributions to one probability, the largest first."""
    fields, pairs = found["fields"], found["pairs"]
    sure = ""
    if explanation["standard_error"] is not None:
        low, high = explanation["interval"]
        sure = f" ± {explanation['standard_error']:.4f} (90 %: {low:.4f} to {high:.4f})"
    table = Table(title=f"row {row}: probability {explanation['probability']:.4f}{sure}", title_justify="left")
    table.add_column("part")
    table.add_column("field")
    table.add_column("seen in training", justify="right")
    table.add_column("contribution", justify="right")
    seen = dict(zip(fields, map(_seen, explanation["impressions"]), strict=True))
    notes = dict.fromkeys(explanation["unseen"], "unseen") | dict.fromkeys(explanation["missing"], "missing")
    parts = [
        *zip(["first order"] * len(fields), fields, explanation["first_order"], strict=True),
        *zip(["deep"] * len(fields), fields, explanation["deep"], strict=True),
        *zip(["pair"] * len(pairs), map(" × ".join, pairs), explanation["second_order"], strict=True),
    ]
    parts.sort(key=lambda part: -abs(part[2]))
    table.add_row("bias", "", "", f"{explanation['bias']:+.4f}")
    for part, name, contribution in parts[:MAX_SHOWN]:
        table.add_row(part, name, notes.get(name, seen.get(name, "")), f"{contribution:+.4f}")
    rest = sum(contribution for _, _, contribution in parts[MAX_SHOWN:]) + explanation["residual"]
    table.add_row(f"{len(parts[MAX_SHOWN:])} others", "", "", f"{rest:+.4f}")
    table.add_section()
    table.add_row("logit", "", "", f"{explanation['logit']:+.4f}")
    table.add_row("calibration", found["calibration"]["method"], "", f"{explanation['calibration']:+.4f}")
    return table


def _seen(impressions: int | list[int]) -> str:
    counts = impressions if isinstance(impressions, list) else [impressions]
    return " ".join(f"{count:,}" for count in counts[:4]) + (" …" if len(counts) > 4 else "")
