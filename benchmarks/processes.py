"""Linux processes: a server and its descendants, their memory and processor time, and how to end them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

STOP_DEADLINE_S = 20.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def stat(pid: int) -> list[str] | None:
    """Return the fields of ``/proc/<pid>/stat`` from the third on; ``None`` for a process that has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def family(pid: int) -> list[int]:
    """Return the process and its running descendants, the process first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := stat(int(entry.name))) is not None and fields[0] != "Z":
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for parent in found:  # grows while it is walked
        found += children.get(parent, [])
    return found


def memory(pid: int) -> dict[str, int]:
    """Return resident (RSS), proportional (PSS), anonymous and shared bytes of one process.

    Anonymous pages belong to the process; other pages belong to files and can be evicted.
    """
    kib: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        kib[name] = int(rest.split()[0])
    return {
        "rss_bytes": kib["Rss"] * 1024,
        "pss_bytes": kib["Pss"] * 1024,
        "anonymous_bytes": kib["Anonymous"] * 1024,
        "shared_bytes": (kib["Shared_Clean"] + kib["Shared_Dirty"]) * 1024,
    }


def total_memory(pids: Iterable[int]) -> dict[str, int]:
    """Return the sums of `memory` over the processes that still run."""
    total: dict[str, int] = {}
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            for name, value in memory(pid).items():
                total[name] = total.get(name, 0) + value
    return total


def cpu_s(pids: Iterable[int]) -> float:
    """Return the processor seconds, user and system, that processes have used."""
    fields = [found for pid in pids if (found := stat(pid)) is not None]
    return sum(int(f[11]) + int(f[12]) for f in fields) / TICKS_PER_S


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and its descendants: SIGTERM, then SIGKILL after a deadline."""
    # With start times, since a pid can be reused.
    began = {pid: fields[19] for pid in family(process.pid) if (fields := stat(pid)) is not None}
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_DEADLINE_S)
    deadline = time.monotonic() + 2.0
    while time.monotonic() < deadline and len(_alive(began)) > 0:
        time.sleep(0.05)
    for pid in _alive(began):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def _alive(began: dict[int, str]) -> list[int]:
    alive = []
    for pid, start in began.items():
        fields = stat(pid)
        if fields is not None and fields[19] == start and fields[0] != "Z":
            alive.append(pid)
    return alive
