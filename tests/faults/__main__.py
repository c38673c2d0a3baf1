"""``python -m tests.faults [--scale N] [--only A1 B4 …] [--soak MINUTES]``: run the fault matrix, print what came of it."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.all_faults import FAULTS
from tests.faults.load import Tally
from tests.faults.matrix import Arena, Fault, make_arena
from tests.faults.soak import soak


def run(one: Fault, arena: Arena) -> bool:
    """Run one fault; print and return whether the service kept its promise."""
    arena.tally = Tally()
    started = time.monotonic()
    try:
        one.run(arena)
        fault = ""
    except AssertionError as error:
        fault = f"FAILED: {str(error).splitlines()[0][:150] if str(error) else 'assertion'}"
    t = arena.tally
    is_kept = not fault and t.errors == 0 and t.wrong == 0
    print(
        f"{one.id:4} {'kept  ' if is_kept else 'BROKEN'} {t.sent:7,} sent {t.errors:4} errors {t.wrong:4} wrong "
        f"{t.worst_s * 1000:9.1f} ms worst {time.monotonic() - started:6.1f} s  {one.what}  {'; '.join(t.notes)} {fault}",
        flush=True,
    )
    return is_kept


def main() -> int:
    """Run all faults, or some; return how many promises were broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--scale", type=int, default=1, help="how much longer than in the tests (default 1)")
    parser.add_argument("--only", nargs="+", help="ids of faults")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="instead: faults in turn under load for so long")
    options = parser.parse_args()
    total, kept, number = Tally(), 0, 0
    with tempfile.TemporaryDirectory(prefix="ctr-faults-") as directory:
        arena = make_arena(Path(directory) / "arena", options.scale)
        if options.soak:
            return soak(arena, options.soak * 60)
        for one in FAULTS:
            if options.only and one.id not in options.only:
                continue
            number += 1
            arena.directory = Path(directory) / f"{one.id}x"
            arena.directory.mkdir()
            kept += run(one, arena)
            total += arena.tally
    print(
        f"\n{number} faults, {kept} survived; {total.sent:,} requests, {total.errors} errors, {total.wrong} wrong answers, "
        f"worst time {total.worst_s * 1000:.1f} ms"
    )
    return number - kept


if __name__ == "__main__":
    sys.exit(main())
