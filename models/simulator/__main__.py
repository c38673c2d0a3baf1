"""``python -m models.simulator --rows 200000 --out logs/``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from models.command_line.interrupts import quiet_interrupts


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 2 after an error message of one line."""
    with quiet_interrupts():
        from models.command_line.running import run_command
        from models.simulator.command import EXAMPLE, simulate_command
    return run_command(simulate_command, EXAMPLE, argv, "python -m models.simulator")


if __name__ == "__main__":
    sys.exit(main())
