"""A few seconds of what ``make fuzz`` does for longer."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from app.problems import Problem
from app.wire.predict_request import PredictWire
from app.wire.rank_request import RankWire
from models.artifact.artifact import load_artifact
from tests.hostile.composing import compose
from tests.making import make_artifact

ROOT = Path(__file__).parents[2]
SECONDS = 3


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


def test_most_composed_bodies_are_right_and_some_are_not(tmp_path: Path) -> None:
    atheris = pytest.importorskip("atheris", reason="atheris has no wheel for this machine")
    artifact = load_artifact(make_artifact(tmp_path))
    wire = PredictWire(artifact.schema, artifact.encoder, 64)
    rank_wire = RankWire(artifact.schema, artifact.encoder, 64)
    rng, taken = np.random.default_rng(0), np.zeros(3, int)
    for _ in range(600):
        body = compose(atheris.FuzzedDataProvider(rng.bytes(300)))
        for n, read in enumerate((wire.read, rank_wire.read, rank_wire.parse_catalog)):
            try:
                read(body)
            except Problem:
                continue
            taken[n] += 1
    assert (taken > 50).all()
    assert 300 < taken.sum() < 600
