"""Comparison with an earlier artifact: its own encoder and calibration on the same rows, and paired intervals."""

import re
from pathlib import Path

import numpy as np
import pytest

from models.artifact.artifact import Artifact
from models.artifact.golden import columns_of
from models.artifact.golden_rows import raw_rows
from models.data.champion import check_readable, score_log
from models.errors import SchemaError
from models.evaluation.bootstrap import NUM_RESAMPLES, resample
from models.evaluation.metrics import auc
from models.schema.feature_schema import FeatureSchema
from models.train import main
from tests.making import SCHEMA, current_artifact, make_artifact, make_log, token_log, train_command


def test_rows_of_a_log_get_the_probabilities_that_the_service_would_answer(artifact: Artifact) -> None:
    frame = make_log(200, seed=9)
    rows = np.array([5, 180, 3, 77])
    found = score_log(artifact, token_log(make_log(200, seed=9)), {"test": rows})
    asked = raw_rows(artifact.schema, frame[rows])
    batch = artifact.encoder.encode(columns_of(artifact.schema, asked))
    expected = artifact.predictor.probabilities(artifact.predictor.score_table(batch, artifact.table))
    assert found.probabilities["test"] == pytest.approx(expected, abs=1e-7)
    assert found.model_version == "v1"


def test_an_artifact_that_needs_more_than_the_schema_has_is_refused(artifact: Artifact) -> None:
    document = SCHEMA.model_dump(by_alias=True)

    def without(change: dict[str, object], name: str) -> FeatureSchema:
        fields = [{**f, **change} if f["name"] == name else f for f in document["field"]]
        return FeatureSchema.model_validate({**document, "field": [f for f in fields if f["name"] != "gone"]})

    check_readable(artifact, without({"min_count": 9}, "site"))
    with pytest.raises(SchemaError, match="needs the categorical field 'site'"):
        check_readable(artifact, without({"name": "gone"}, "site"))
    with pytest.raises(SchemaError, match="needs the categorical field 'site'"):
        check_readable(artifact, without({"kind": "numeric", "dtype": None, "min_count": 2}, "site"))
    with pytest.raises(SchemaError, match="needs 5 tokens of field 'clicked_ads'"):
        check_readable(artifact, without({"max_length": 4}, "clicked_ads"))


def test_differences_are_of_the_same_resamples() -> None:
    rng = np.random.default_rng(5)
    labels, groups = rng.integers(0, 2, 300), rng.integers(0, 40, 300)
    first, second = rng.random(300), rng.random(300)
    found = resample(labels, (first, second), groups, seed=3)
    draws = np.random.default_rng(3)
    differences = []
    for _ in range(NUM_RESAMPLES):
        users = draws.integers(groups.max() + 1, size=groups.max() + 1)
        rows = np.concatenate([np.flatnonzero(groups == u) for u in users])
        a, b = (auc(labels[rows], p[rows]) for p in (first, second))
        assert a is not None
        assert b is not None
        differences.append(a - b)
    assert found.interval("auc", (1, -1)) == pytest.approx(np.quantile(differences, (0.025, 0.975)).tolist())
    assert found.interval("auc", (0, 1)) == resample(labels, [second], groups, seed=3).interval("auc")
    one_class = resample(np.ones(300), (first, second), groups)
    assert one_class.interval("auc", (1, -1)) is None
    assert one_class.value("auc", (1, 0)) is None
    assert one_class.interval("ece", (1, -1)) is not None


def test_the_command_compares_with_a_previous_artifact(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = train_command(tmp_path)
    assert main(command) == 0
    first = current_artifact(tmp_path / "out")
    (before,) = [line for line in capsys.readouterr().out.splitlines() if re.match(r"test +\d", line)]
    assert "Comparison with" not in (first / "report.html").read_text()
    assert "What each field contributes, test" in (first / "report.html").read_text()
    assert main([*command, "--seed", "8", "--compare", str(first)]) == 0
    second = current_artifact(tmp_path / "out")
    (old,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("test (champion)")]
    assert old.split()[2:] == before.split()[1:]
    page = (second / "report.html").read_text()
    assert f"Comparison with {first.name}, test" in page
    assert "1,600 train rows" in page
    assert main([*command, "--compare", str(make_artifact(tmp_path / "other"))]) == 2
    assert "--compare: the artifact needs the categorical field 'site'" in capsys.readouterr().err
