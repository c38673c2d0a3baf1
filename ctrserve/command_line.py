"""All commands of ``ctrserve``. Those that belong to a package are defined there; this file gives them their names."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer
from typer import Option

from app import __main__ as serving
from app import keys
from ctrserve.commands import explain as explaining
from ctrserve.commands import versions
from models.command_line.options import Command
from models.command_line.running import new_app, require_extra
from models.pipeline import check_command as checking
from models.pipeline import convert_command as converting
from models.pipeline import score_command as scoring
from models.pipeline import train_command as training
from models.simulator import command as simulation

OFFLINE, ONLINE, FIRST = "From a log to a model", "From a model to answers", "To begin"

app = new_app()


def _show_version(*, asked: bool) -> None:
    if asked:
        print(f"ctrserve {version('ctrserve')}")
        raise typer.Exit


@app.callback()
def ctrserve(
    *,
    _: Annotated[
        bool, Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Train a DeepFM on a click log, score files with it, and serve calibrated click probabilities."""


def demo_command() -> int:
    """Simulate a log, train on it, serve the model and ask it.

    Everything that it makes stays below `demo/`; on a terminal the service then runs until Ctrl-C.
    """
    for extra in ("train", "demo"):
        require_extra(extra)
    from app.demo.__main__ import main

    return main()


for name, command, panel, example in (
    ("demo", demo_command, FIRST, "Example: `ctrserve demo`"),
    ("simulate", simulation.simulate_command, FIRST, simulation.EXAMPLE),
    ("convert", converting.convert_command, OFFLINE, converting.EXAMPLE),
    ("check", checking.check_command, OFFLINE, checking.EXAMPLE),
    ("train", training.train_command, OFFLINE, training.EXAMPLE),
    ("score", scoring.score_command, OFFLINE, scoring.EXAMPLE),
    ("explain", explaining.explain_command, OFFLINE, explaining.EXAMPLE),
    ("serve", serving.serve_command, ONLINE, serving.EXAMPLE),
    ("keys", keys.keys_command, ONLINE, keys.EXAMPLE),
):
    app.command(name, cls=Command, rich_help_panel=panel, epilog=example)(command)
app.add_typer(versions.app, name="versions", rich_help_panel=ONLINE)
