"""The ``ctrserve`` command. Imports little before it is ready for Ctrl-C."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from models.command_line.interrupts import quiet_interrupts


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; return its exit status."""
    with quiet_interrupts():
        from ctrserve.command_line import app
        from models.command_line.running import run
    return run(app, (sys.argv[1:] if argv is None else argv) or ["--help"], "ctrserve")


if __name__ == "__main__":
    sys.exit(main())
