"""``ctrserve check``: what training would make of a log, before training."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ctrserve.__main__ import main
from models.schema.feature_schema import load_schema
from tests.making import make_log


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.parquet"
    day = pl.Series("day", [f"2026-01-{1 + i // 200:02}" for i in range(2_000)])
    make_log().with_columns(day).write_parquet(path)
    return path


def test_fields_missing_and_unseen_shares_and_the_parts_dates(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "schema.toml").write_text(
        'label = "click"\n[split]\ncolumn = "day"\n[[field]]\nname = "user_id"\nkind = "categorical"\n'
        '[[field]]\nname = "price"\nkind = "numeric"\nbins = 4\n'
    )
    command = ["check", "--data", str(log), "--schema", str(tmp_path / "schema.toml")]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    user, price = found["fields"]
    frame = pl.read_parquet(log)
    train, test = frame.filter(pl.col("day") < "2026-01-09"), frame.filter(pl.col("day") == "2026-01-10")
    known = {user for user, n in Counter(train["user_id"].to_list()).items() if n >= 2}
    assert user["values_kept"] == len(known)
    unseen = [name not in known for name in test["user_id"].to_list()]
    assert user["unseen"]["test"] == pytest.approx(np.mean(unseen))
    assert (price["becomes"], price["values_kept"]) == ("4 quantile bins", 4)
    assert price["missing"] == pytest.approx(train["price"].null_count() / train.height)
    assert [(part["name"], part["rows"], part["from"], part["to"]) for part in found["parts"]] == [
        ("train", 1_600, "2026-01-01", "2026-01-08"),
        ("validation", 200, "2026-01-09", "2026-01-09"),
        ("test", 200, "2026-01-10", "2026-01-10"),
    ]
    assert found["parts"][2]["click_rate"] == pytest.approx(test["click"].to_numpy().mean())
    assert main(command) == 0
    assert "4 quantile bins" in capsys.readouterr().out


def test_without_a_schema_the_one_that_is_inferred_is_written(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "inferred.toml"
    assert main(["check", "--data", str(log), "--label", "click", "--out", str(out), "--json"]) == 0
    names = [field["name"] for field in json.loads(capsys.readouterr().out)["fields"]]
    assert [field.name for field in load_schema(out).fields] == names
    assert main(["check", "--data", str(log), "--label", "click", "--out", str(out)]) == 2
    assert capsys.readouterr().err == f"error: {out} exists: give it with --schema, or another name with --out\n"
    assert main(["check", "--data", str(log)]) == 2
    assert capsys.readouterr().err == "error: give --schema FILE, or --label COLUMN to have a schema inferred\n"
