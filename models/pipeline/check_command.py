"""The command ``check``: reads a log as training does, and says what training would make of it."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.console import Console
from rich.table import Table
from typer import Option

from models.command_line.interrupts import quiet_interrupts
from models.errors import ModelsError

if TYPE_CHECKING:
    from models.data.preparation import Prepared

EXAMPLE = (
    "Example: `ctrserve check --data 'logs/*.parquet' --label click`, then edit schema.toml and give it with `--schema`"
)
SECONDS = len("2026-01-31 23:59:59")
PARTS = ("train", "validation", "test")


def check_command(
    *,
    data: Annotated[list[str], Option(metavar="LOG...", help="Files of the log, or glob patterns.")],
    schema: Annotated[Path | None, Option(metavar="FILE", help="Feature schema, TOML.")] = None,
    label: Annotated[
        str | None, Option(metavar="COLUMN", help="Without --schema: infer a schema that predicts this column.")
    ] = None,
    out: Annotated[Path, Option(metavar="FILE", help="Where an inferred schema is written.")] = Path("schema.toml"),
    seed: Annotated[int, Option(metavar="N", min=0, help="Of a random split; that of training.")] = 7,
    shard_rows: Annotated[int, Option(metavar="N", min=1, help="A log with more rows is kept on disk.")] = 1_000_000,
    as_json: Annotated[bool, Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Check a schema and a log before training on it.

    Reads the log as training does, so that every error of training's first stage shows here, with file, row and column.
    Prints what each field becomes, its missing and unseen values, and the rows, clicks and dates of the three parts.
    """
    with quiet_interrupts():
        from models.data.preparation import prepare
        from models.pipeline.schema_choice import schema_of

    if schema is None and out.exists():
        raise ModelsError(f"{out} exists: give it with --schema, or another name with --out")
    features = schema_of(schema, label, data, out)
    with tempfile.TemporaryDirectory(prefix="ctrserve-") as folder:
        say = (lambda line: None) if as_json else (lambda line: print(line, file=sys.stderr))
        prepared = prepare(data, features, seed, shard_rows, Path(folder) / "shards", say)
        found = described(prepared)
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        _print(found)


def described(prepared: Prepared) -> dict[str, Any]:
    """Return what the command tells, for machines."""
    from models.report.field_facts import field_facts

    encoder, facts = prepared.encoder, prepared.facts
    clicks = {"train": float(prepared.labels.mean())}
    clicks |= {name: float(part.part.load().labels.mean()) for name, part in prepared.held_out.items()}
    fields = [
        {
            "name": fact.name,
            "kind": fact.kind,
            "side": fact.side,
            "becomes": fact.encoding,
            "type": fitted.dtype,
            "example": fitted.example,
            "values_kept": fact.num_values,
            "table_rows": fact.num_rows,
            "missing": fact.missing,
            "unseen": dict(fact.unseen),
            "drift": fact.drift,
        }
        for fact, fitted in zip(field_facts(prepared), encoder.schema.fitted, strict=True)
    ]
    parts = [
        {
            "name": name,
            "rows": facts.rows[name],
            "click_rate": clicks.get(name),
            "from": facts.window.get(name, (None, None))[0],
            "to": facts.window.get(name, (None, None))[1],
        }
        for name in PARTS
    ]
    return {
        "label": prepared.schema.label,
        "group": prepared.schema.group,
        "split": prepared.schema.split.model_dump(mode="json", exclude_defaults=True),
        "table_rows": encoder.num_rows,
        "fields": fields,
        "parts": parts,
    }


def _print(found: dict[str, Any]) -> None:
    width = None if sys.stdout.isatty() else 10_000  # what is piped to another command is not wrapped
    console = Console(highlight=False, width=width)
    shown = [part["name"] for part in found["parts"] if part["rows"]]
    table = _table("field", "kind", "becomes", "values|", "missing, %|", f"unseen, %, {'/'.join(shown[1:])}|", "drift|")
    for field in found["fields"]:
        kept = "–" if field["values_kept"] is None else f"{field['values_kept']:,}"
        unseen = "/".join(_percent(field["unseen"].get(name)) for name in shown[1:])
        words = [field["name"], field["kind"], field["becomes"]]
        table.add_row(*words, kept, _percent(field["missing"]), unseen, f"{field['drift']:.2f}")
    console.print(table)
    table = _table("part", "rows|", "clicks, %|", "from", "to")
    for part in found["parts"]:
        dates = [(part[end] or "–")[:SECONDS] for end in ("from", "to")]
        table.add_row(part["name"], f"{part['rows']:,}", _percent(part["click_rate"]), *dates)
    console.print()
    console.print(table)
    how = ", ".join(f"{key} {value}" for key, value in found["split"].items()) or "at random, by the seed"
    console.print(f"\nlabel {found['label']}; groups by {found['group'] or '–'}; split: {how}")


def _table(*columns: str) -> Table:
    # A column whose name ends with | holds numbers.
    table = Table(box=None, pad_edge=False)
    for name in columns:
        table.add_column(name.rstrip("|"), justify="right" if name.endswith("|") else "left", overflow="fold")
    return table


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.2f}"
