"""Runs a peer in a process of its own environment."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def run_peer(name: str, python: Path, seeds: list[int], folder: Path, setting: Any) -> dict[str, Any]:
    """Run a peer in its environment; return what it prints, or its ``error``.

    Args:
        name: of the peer's module, ``run_<name>``.
        python: of its environment.
        seeds: it trains with each.
        folder: with the inputs of `benchmarks.accuracy.inputs.save_inputs`; predictions are written there.
        setting: to be taken; ``None``: the best of several on the validation part.
    """
    command = [str(python), "-m", f"benchmarks.accuracy.run_{name}", "--inputs", str(folder), "--out", str(folder)]
    command += ["--seeds", *map(str, seeds)]
    if setting is not None:
        command += ["--setting", json.dumps(setting)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    lines = ran.stdout.strip().splitlines()
    if ran.returncode or not lines:
        return {"error": f"exit status {ran.returncode}"}
    result: dict[str, Any] = json.loads(lines[-1])  # a library can print before
    return result
