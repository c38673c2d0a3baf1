"""A few seconds of what ``make fuzz`` does for longer."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECONDS = 5


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris has no wheel for this machine")
def test_no_bytes_break_the_wires_or_the_encoder(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.hostile.fuzz_encoder", f"-max_total_time={SECONDS}", "-seed=1"]
    ran = subprocess.run(
        [*command, f"-artifact_prefix={tmp_path}/", "-print_final_stats=1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS + 60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-4_000:]
    assert not list(tmp_path.iterdir())
    executions = re.search(r"number_of_executed_units: (\d+)", ran.stderr)
    assert executions is not None, ran.stderr[-4_000:]
    assert int(executions[1]) > 1_000
