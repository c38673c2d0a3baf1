"""``python -m models.train``: the command ``train`` alone."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from models.command_line.interrupts import quiet_interrupts


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 2 after an error message of one line, or 3 when a requirement is not met."""
    with quiet_interrupts():
        from models.command_line.running import run_command
        from models.pipeline.train_command import EXAMPLE, train_command
    return run_command(train_command, EXAMPLE, argv, "python -m models.train")


if __name__ == "__main__":
    sys.exit(main())
