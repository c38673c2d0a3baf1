"""``ctrserve --version``: the installed version. Training is ``python -m models.train``, serving ``python -m app``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.metadata import version


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line; print the version or the help."""
    parser = argparse.ArgumentParser(
        prog="ctrserve", description="Train with `python -m models.train`, serve with `python -m app`."
    )
    parser.add_argument("--version", action="version", version=f"ctrserve {version('ctrserve')}")
    parser.parse_args(argv)
    parser.print_help()


if __name__ == "__main__":
    main()
