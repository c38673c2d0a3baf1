"""``ctrserve versions``: which versions there are, which one is served, and the way back."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from rich.table import Table
from typer import Argument, Context, Option

from models.artifact import versions as store
from models.artifact.versions import Version
from models.command_line.options import Command
from models.command_line.running import new_app
from models.errors import ModelsError
from models.evaluation.metric_names import METRICS

LISTED = ("log loss", "AUC", "Σp/Σy", "ECE")
"""Those that a line of a terminal has room for."""

Root = Annotated[Path, Option("--artifacts", metavar="DIR", help="Directory of artifacts.")]
Name = Annotated[str, Argument(metavar="VERSION", help="Name of the artifact's directory.")]
AsJson = Annotated[bool, Option("--json", help="Print the result as JSON.")]
ROOT = Path("artifacts")

app = new_app()


@app.callback(invoke_without_command=True)
def versions_command(context: Context) -> None:
    """List, compare, promote, roll back and remove model versions."""
    if context.invoked_subcommand is None:
        list_command()


def list_command(*, artifacts: Root = ROOT, as_json: AsJson = False) -> None:
    """List the versions, the newest first, with the metrics of their last held-out part."""
    versions = store.list_versions(artifacts)
    if as_json:
        _print_json([_described(version) for version in versions])
        return
    if not versions:
        print(f"{artifacts}: no versions yet")
        return
    table = _table("version", "MiB", "rows", *LISTED)
    for version in versions:
        size = f"{version.size_bytes / 2**20:.1f}"
        if version.manifest is None:
            table.add_row(_shown(version), size, version.fault)
            continue
        metrics = _last_part(version)
        rows = f"{sum(version.manifest.data.rows.values()):,}"
        table.add_row(_shown(version), size, rows, *(_figure(metrics.get(METRICS[name])) for name in LISTED))
    _print(table)
    print("* is the current one, which a service serves")


def show_command(name: Name, *, artifacts: Root = ROOT, as_json: AsJson = False) -> None:
    """Show one version: what it was trained from, its metrics, its settings, and where its report is."""
    version = store.find_version(artifacts, name)
    if as_json or version.manifest is None:
        _print_json(_described(version, whole=True))
        return
    manifest = version.manifest
    table = _table("part", "rows", *METRICS)
    for part, metrics in manifest.metrics.items():
        table.add_row(part, f"{metrics.get('rows') or 0:,}", *(_figure(metrics.get(key)) for key in METRICS.values()))
    rows = ", ".join(f"{n:,} {part}" for part, n in manifest.data.rows.items() if n)
    window = ", ".join(f"{part} {' to '.join(span)}" for part, span in manifest.data.window.items())
    facts = {
        "version": _shown(version),
        "created": version.created,
        "size": f"{version.size_bytes / 2**20:.1f} MiB, {manifest.table_rows:,} table rows",
        "rows": rows,
        **({"window": window} if window else {}),
        "files": ", ".join(manifest.data.files),
        "report": str(artifacts / name / "report.html"),
    }
    print("\n".join(f"{key:9} {value}" for key, value in facts.items()))
    if manifest.metrics:
        _print(table)


def compare_command(
    first: Name,
    second: Annotated[str, Argument(metavar="OTHER", help="The version to compare with.")],
    *,
    artifacts: Root = ROOT,
    as_json: AsJson = False,
) -> None:
    """Compare two versions: metrics of their own last parts, data, fields and settings that differ.

    Their parts may be of different days. `ctrserve train --compare` and `ctrserve score` compare on the same rows.
    """
    pair = [store.find_version(artifacts, name) for name in (first, second)]
    for version in pair:
        if version.manifest is None:
            raise ModelsError(f"{version.name}: {version.fault}")
    described = [_comparable(version) for version in pair]
    names = list(dict.fromkeys([*described[0], *described[1]]))
    rows = {name: [facts.get(name) for facts in described] for name in names}
    kept = {name: values for name, values in rows.items() if name in METRICS or values[0] != values[1]}
    if as_json:
        _print_json({"versions": [first, second], "differences": kept})
        return
    table = _table("", first, second, "difference")
    for name, (a, b) in kept.items():
        both = isinstance(a, float) and isinstance(b, float)
        table.add_row(name, _figure(a), _figure(b), f"{b - a:+.4f}" if both else "")  # type: ignore[operator]
    _print(table)


def promote_command(name: Name, *, artifacts: Root = ROOT, as_json: AsJson = False) -> None:
    """Make a version the current one, after verifying all of it. Running services follow within a second."""
    store.promote(artifacts, name)
    _say({"current": name}, f"{name} is the current version now", as_json=as_json)


def rollback_command(
    name: Annotated[str | None, Argument(metavar="VERSION", help="The version to go back to.")] = None,
    *,
    artifacts: Root = ROOT,
    as_json: AsJson = False,
) -> None:
    """Go back to a version, or without a name to the newest that is older than the current one."""
    target = store.version_before(artifacts) if name is None else name
    store.promote(artifacts, target)
    _say({"current": target}, f"{target} is the current version now", as_json=as_json)


def remove_command(
    names: Annotated[list[str] | None, Argument(metavar="VERSION...", help="Versions to remove.")] = None,
    *,
    keep: Annotated[
        int | None, Option(metavar="N", help="Or: remove all but the newest N and the current one.")
    ] = None,
    older_than: Annotated[
        float, Option(metavar="DAYS", help="With --keep: only those that are older than this.")
    ] = 0.0,
    dry_run: Annotated[bool, Option("--dry-run", help="Say what would be removed, and remove nothing.")] = False,
    artifacts: Root = ROOT,
    as_json: AsJson = False,
) -> None:
    """Remove versions by name or by a retention policy; never the current one."""
    if bool(names) == (keep is not None):
        raise ModelsError("give either the names of versions or --keep N")
    if keep is not None and (keep < 0 or older_than < 0):
        raise ModelsError("--keep and --older-than: expected 0 or more")
    gone = names if names and keep is None else store.removable(artifacts, keep or 0, timedelta(days=older_than))
    if not dry_run:
        store.remove(artifacts, gone)
    verb = "would remove" if dry_run else "removed"
    _say({"removed": gone, "dry_run": dry_run}, f"{verb} {', '.join(gone) or 'nothing'}", as_json=as_json)


for command_name, command, example in (
    ("list", list_command, "Example: `ctrserve versions list --artifacts artifacts`"),
    ("show", show_command, "Example: `ctrserve versions show 20261129T135449-e554377f`"),
    (
        "compare",
        compare_command,
        "Example: `ctrserve versions compare 20261128T020000-0aa1bb2c 20261129T020000-e554377f`",
    ),
    ("promote", promote_command, "Example: `ctrserve versions promote 20261129T135449-e554377f`"),
    ("rollback", rollback_command, "Example: `ctrserve versions rollback`"),
    ("remove", remove_command, "Example: `ctrserve versions remove --keep 5 --older-than 30 --dry-run`"),
):
    app.command(command_name, cls=Command, epilog=example)(command)


def _described(version: Version, *, whole: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = {
        "version": version.name,
        "current": version.is_current,
        "size_bytes": version.size_bytes,
        "created": version.created or None,
        "fault": version.fault,
    }
    if version.manifest is not None:
        found |= version.manifest.model_dump(mode="json") if whole else {"metrics": _last_part(version)}
    return found


def _comparable(version: Version) -> dict[str, object]:
    assert version.manifest is not None
    manifest, metrics = version.manifest, _last_part(version)
    found: dict[str, object] = {name: metrics.get(key) for name, key in METRICS.items()}
    found |= {"created": manifest.created, "table rows": manifest.table_rows, "size in bytes": version.size_bytes}
    found |= {f"{part} rows": rows for part, rows in manifest.data.rows.items()}
    found |= {f"{part} window": " to ".join(span) for part, span in manifest.data.window.items()}
    found |= {f"model: {name}": str(value) for name, value in manifest.model.model_dump().items()}
    found |= {name: str(value) for name, value in manifest.training.items() if name != "model"}
    return found


def _last_part(version: Version) -> Mapping[str, float | int | None]:
    assert version.manifest is not None
    return next(reversed(list(version.manifest.metrics.values())), {})


def _shown(version: Version) -> str:
    return f"{version.name}{' *' if version.is_current else ''}"


def _figure(value: object) -> str:
    return "–" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", overflow="fold")
    return table


def _print(table: Table) -> None:
    # What is piped to another command is not wrapped.
    Console(highlight=False, width=None if sys.stdout.isatty() else 10_000).print(table)


def _print_json(found: object) -> None:
    print(json.dumps(found, indent=2, ensure_ascii=False))


def _say(found: Mapping[str, object], sentence: str, *, as_json: bool) -> None:
    if as_json:
        _print_json(found)
    else:
        print(sentence)
