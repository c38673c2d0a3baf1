"""The command ``convert``: files of libffm and libsvm as a Parquet log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument

from models.command_line.interrupts import quiet_interrupts
from models.errors import ModelsError

EXAMPLE = "Example: `ctrserve convert clicks.ffm clicks.parquet`"


def convert_command(
    *,
    source: Annotated[Path, Argument(metavar="FILE", help="In the format of libffm or libsvm.")],
    target: Annotated[Path, Argument(metavar="LOG", help="The Parquet file to write.")],
) -> None:
    """Convert a file of libffm or libsvm to a Parquet log.

    A field of libffm becomes the column `field_<number>`; features of libsvm become the list `features`, or a numeric column
    each where they have other values than 1.
    """
    with quiet_interrupts():
        from models.data.libffm import convert

    if target.exists():
        raise ModelsError(f"{target}: is there already")
    print(f"{convert(source, target):,} rows, label 'label', in {target}")
