import platform
import subprocess
import sys
from importlib.util import find_spec

import pytest

PROBE = """
import resource, sys
from app.memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
for _ in range(3):
    [bytearray(4 << 20) for _ in range(4)]
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    [bytearray(4 << 20) for _ in range(4)]
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or find_spec("models._native") is None, reason="needs glibc and the compiled part"
)
def test_a_process_that_keeps_its_memory_asks_for_none_again() -> None:
    faults = [
        int(subprocess.run([sys.executable, "-c", PROBE, how], capture_output=True, check=True, timeout=60).stdout)
        for how in ("given back", "kept")
    ]
    assert faults[1] < 1_000 < faults[0]
