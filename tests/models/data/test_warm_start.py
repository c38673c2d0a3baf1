"""Warm start: known tokens keep their weights under new ids, and new tokens are sorted in."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from models.artifact.artifact import Artifact, load_artifact
from models.data.fitting import fit_encoder
from models.data.warm_start import check_fits, inherit
from models.errors import SchemaError
from models.features.field_encoder import Value
from models.schema.feature_schema import FeatureSchema, Pooling
from models.train import main
from tests.making import SCHEMA, current_artifact, make_artifact, make_log, token_log, train_command


def later_log() -> pl.DataFrame:
    log = make_log(seed=5)
    return log.with_columns(("9" + pl.col("user_id")).alias("user_id"))


def test_every_old_row_moves_to_the_new_id_of_its_token(artifact: Artifact) -> None:
    log = later_log()
    encoder = fit_encoder(token_log(log), np.arange(log.height), artifact)
    rows = inherit(artifact, encoder).rows
    assert len(set(rows.tolist())) == artifact.encoder.num_rows
    lists: list[Value] = [["ad1", "ad2"], [], None]
    values: list[list[Value]] = [["7", "nobody", None], ["site-3.example", "", None], lists]
    values += [["ad3", "x", None], [1.5, -9.0, None]]
    old, new = artifact.encoder.encode(values), encoder.encode(values)
    assert (rows[old.ids] == new.ids).all()


def test_ids_stay_ordered_by_count_over_both_logs_then_token(artifact: Artifact) -> None:
    log = later_log()
    encoder = fit_encoder(token_log(log), np.arange(log.height), artifact)
    old = artifact.encoder.vocabularies["user_id"]
    counts = dict(zip(old.tokens(), artifact.counts[2 : 2 + len(old)].tolist(), strict=True))
    for token, n in log["user_id"].value_counts().rows():
        counts[token] = counts.get(token, 0) + n
    kept = [t for t in counts if counts[t] >= 2]
    assert encoder.vocabularies["user_id"].tokens() == sorted(kept, key=lambda t: (-counts[t], t.encode()))
    assert encoder.schema.fitted[4].boundaries == artifact.schema.fitted[4].boundaries


def test_other_fields_than_the_artifacts_are_refused(artifact: Artifact) -> None:
    document = SCHEMA.model_dump(by_alias=True)
    fewer = FeatureSchema.model_validate({**document, "field": document["field"][:-1]})
    with pytest.raises(SchemaError, match="has 5 fields, the schema 4"):
        check_fits(artifact, fewer)
    moved = FeatureSchema.model_validate({**document, "field": [*document["field"][1:], document["field"][0]]})
    with pytest.raises(SchemaError, match="field 'site' differs from 'user_id'"):
        check_fits(artifact, moved)


@pytest.mark.parametrize(("learnt", "given"), [("mean", "sqrtn"), ("sqrtn", "mean")])
def test_sequences_stay_pooled_as_they_were(tmp_path: Path, learnt: Pooling, given: Pooling) -> None:
    def schema_with(pooling: Pooling | None) -> FeatureSchema:
        document = SCHEMA.model_dump(by_alias=True)
        document["field"][2]["pooling"] = pooling
        return FeatureSchema.model_validate(document)

    log = later_log()
    artifact = load_artifact(make_artifact(tmp_path, schema=schema_with(learnt)))
    for choice in (None, learnt):
        check_fits(artifact, schema_with(choice))
        encoder = fit_encoder(token_log(log, schema_with(choice)), np.arange(log.height), artifact)
        assert [field.pooling for field in encoder.fields] == ["mean", "mean", learnt, "mean", "mean"]
    with pytest.raises(SchemaError, match=f"'clicked_ads' is pooled by '{learnt}' in the artifact, not by '{given}'"):
        check_fits(artifact, schema_with(given))


def test_a_warm_start_begins_where_the_artifact_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = train_command(tmp_path)

    def current() -> Path:
        return current_artifact(tmp_path / "out")

    assert main([*command, "--no-refit"]) == 0
    assert "test (LR)" in capsys.readouterr().out
    first = current()
    still = ["--init-from", str(first), "--learning-rate", "1e-9", "--dense-learning-rate", "1e-9"]
    assert main([*command, *still, "--no-refit"]) == 0
    assert "(LR)" not in capsys.readouterr().out  # a regression on the new day alone is no fair comparison
    second = load_artifact(current())
    before = load_artifact(first)
    assert np.allclose(second.table, before.table, atol=1e-6)
    assert (second.counts == 2 * before.counts).all()
    assert second.manifest.training["init_from"] == before.model_version
    assert second.manifest.training["rows_before"] == 1_600
    assert main([*command, "--init-from", str(first), "--hidden", "9"]) == 2
    assert "model of other sizes" in capsys.readouterr().err
    assert main(command) == 0
    refitted = current()
    make_log().filter(pl.col("user_id").hash(1) % 2 == 0).write_parquet(
        tmp_path / "log.parquet"
    )  # a day without half of the users
    still[1] = str(refitted)
    assert main([*command, *still]) == 0
    third, before = (load_artifact(path) for path in (current(), refitted))
    assert third.manifest.training["rows_before"] == 1_800  # its validation rows too
    inherited = inherit(before, third.encoder)
    is_known = before.counts > 0
    assert (third.counts[inherited.rows] == before.counts)[is_known].any()  # what the day has not seen
    assert np.allclose(third.table[inherited.rows][is_known], before.table[is_known], atol=1e-6)
