"""Schemas inferred from logs whose columns are known to be ids, quantities, times, lists, or written with the label."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from models.data.column_evidence import Evidence
from models.data.log_sample import SAMPLE_ROWS
from models.data.schema_inference import InferredSchema, infer_schema
from models.data.time_inference import find_time
from models.errors import LogError

N = 20_000


def infer(path: Path, columns: Mapping[str, Any], name: str = "log.parquet", separator: str = ",") -> InferredSchema:
    frame = pl.DataFrame(columns)
    file = path / name
    if name.endswith(".parquet"):
        frame.write_parquet(file)
    else:
        frame.write_csv(file, separator=separator)
    return infer_schema([str(file)], "click")


def kinds(found: InferredSchema) -> dict[str, str]:
    return {field.name: field.kind for field in found.schema.fields}


@pytest.fixture(scope="module")
def drawn() -> dict[str, np.ndarray]:
    """Ids and quantities of a thousand values each, and clicks that depend on both."""
    rng = np.random.default_rng(1)
    names, amounts = rng.integers(0, 1_000, N), rng.integers(0, 1_000, N)
    z = -1 + rng.normal(0, 1, 1_000)[names] + 0.002 * amounts
    return {"names": names, "amounts": amounts, "click": (rng.random(N) < 1 / (1 + np.exp(-z))).astype(np.int64)}


@pytest.mark.parametrize("file", ["log.parquet", "log.csv"])
def test_the_label_decides_whether_integers_are_ids_if_the_column_name_does_not(
    tmp_path: Path, drawn: dict[str, np.ndarray], file: str
) -> None:
    noise = np.random.default_rng(2).integers(0, 1_000, N)
    columns = {"x1": drawn["names"], "x2": drawn["amounts"], "x3": noise, "click": drawn["click"]}
    assert kinds(infer(tmp_path, columns, file)) == {"x1": "categorical", "x2": "numeric", "x3": "numeric"}


def test_the_column_name_takes_precedence_over_the_label(tmp_path: Path, drawn: dict[str, np.ndarray]) -> None:
    columns = {
        "movieId": drawn["amounts"],
        "item_price": drawn["names"],
        "bid": drawn["names"],
        "click": drawn["click"],
    }
    found = infer(tmp_path, columns)
    assert kinds(found) == {"movieId": "categorical", "item_price": "numeric", "bid": "numeric"}


def test_columns_that_predict_the_label_perfectly_are_left_out(tmp_path: Path, drawn: dict[str, np.ndarray]) -> None:
    click, rng = drawn["click"], np.random.default_rng(3)
    columns = {
        "nonclk": 1 - click,
        "dwell": np.where(click == 1, rng.exponential(10, N) + 0.1, 0.0),
        "outcome": [["skipped", "opened"][c] for c in click],
        "strong": np.where(rng.random(N) < 0.9, click, 1 - click),
        "x": drawn["names"],
        "click": click,
    }
    found = infer(tmp_path, columns)
    assert set(kinds(found)) == {"strong", "x"}
    assert all("only clicks have another value" in found.reasons[name] for name in ("nonclk", "dwell", "outcome"))


def test_so_are_columns_that_half_of_the_non_clicks_have(tmp_path: Path, drawn: dict[str, np.ndarray]) -> None:
    click = drawn["click"]
    state = ["a" if c else "bc"[i % 2] for i, c in enumerate(click)]
    found = infer(tmp_path, {"state": state, "x": drawn["names"], "click": click})
    assert "predicts the label" in found.reasons["state"]


def test_a_few_clicks_are_no_evidence() -> None:
    click = np.zeros(N)
    click[:: N // 30] = 1
    evidence = Evidence(pl.Series(click))
    assert not evidence.predicts_the_label(pl.Series(1 - click))
    assert not evidence.are_ids(pl.Series(np.arange(N) % 700))


START = datetime(2026, 1, 1, tzinfo=UTC)
HOURS = [START + timedelta(hours=i) for i in range(300)]
EPOCHS = np.array([int(hour.timestamp()) for hour in HOURS])


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("time_stamp", EPOCHS, True),
        ("eventTime", EPOCHS * 1_000, True),
        ("click_ts", EPOCHS.astype(float), True),
        ("hour", [int(hour.strftime("%y%m%d%H")) for hour in HOURS], True),
        ("log_date", [int(hour.strftime("%Y%m%d")) for hour in HOURS], True),
        ("request_time", [hour.isoformat() for hour in HOURS], True),
        ("hour", [hour.hour for hour in HOURS], False),
        ("watch_time", np.arange(300) * 60, False),
        ("time_to_live", np.linspace(0, 1, 300), False),
        ("user_id", EPOCHS, False),
        ("date", ["soon"] * 300, False),
        ("day", [], False),
        ("birthday", [f"19{70 + i % 30}-01-02" for i in range(300)], False),
        ("day", ["Monday", "Tuesday", "Friday"] * 100, False),
        ("time", [f"{i % 24:02d}:30:00" for i in range(300)], False),
    ],
)
def test_times_are_distinguished_from_other_numbers(name: str, values: Any, expected: bool) -> None:
    frame = pl.DataFrame([pl.Series(name, values, strict=False)])
    assert (find_time(frame, "click", Evidence(pl.Series([0.0] * frame.height))) is not None) is expected


def test_the_finest_time_in_the_order_of_the_log_splits_it_and_other_times_are_left_out(tmp_path: Path) -> None:
    n = len(HOURS)
    columns = {
        "date": [hour.strftime("%Y-%m-%d") for hour in HOURS],
        "time_ms": EPOCHS * 1_000,
        "upload_dt": [f"2025-12-{1 + i * 7 % 30:02d}" for i in range(n)],
        "click": [i % 2 for i in range(n)],
    }
    found = infer(tmp_path, columns)
    assert found.schema.split.column == "time_ms"
    assert kinds(found) == {"upload_dt": "categorical", "hour": "categorical"}
    assert found.schema.fields[-1].derived == "hour"
    assert "rises with 'time_ms'" in found.reasons["date"]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_read_from_the_header(tmp_path: Path, separator: str) -> None:
    columns = {"a": list("xyxy") * 10, "b, c;|d": list("uuvv") * 10, "click": [0, 1] * 20}
    found = infer(tmp_path, columns, "log.csv", separator)
    assert kinds(found) == {"a": "categorical", "b, c;|d": "categorical"}
    assert found.schema.log.separator == (None if separator == "," else separator)


def test_texts_that_are_lists_are_sequences_and_share_the_most_similar_vocabulary(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    columns = {
        "user_id": rng.permutation(np.tile(np.arange(1_000), 2)),
        "video_id": rng.integers(0, 100, 2_000),
        "seen": ["|".join(map(str, rng.integers(0, 100, 3))) for _ in range(2_000)],
        "title": [f"{i} | one of its kind {i}" for i in range(2_000)],
        "click": rng.integers(0, 2, 2_000),
    }
    found = infer(tmp_path, columns, "log.csv")
    assert kinds(found) == {"user_id": "categorical", "video_id": "categorical", "seen": "sequence"}
    assert {field.name: field.vocabulary for field in found.schema.fields}["seen"] == "video_id"
    assert found.schema.group == "user_id"


def test_sides_are_those_of_what_two_rows_have_in_common_and_else_of_the_name(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    users, ads, n = rng.integers(0, 60, 2_000), rng.integers(0, 30, 2_000), 2_000
    columns = {
        "click": rng.integers(0, 2, n),
        "user_id": users,
        "x1": rng.permutation(60)[users],
        "ad_id": ads,
        "x2": rng.permutation(30)[ads],
        "hour": rng.integers(0, 24, n),
        "browser": rng.integers(0, 4, n),
        "ad_age": rng.random(n),
        "user_ads": rng.random(n),
        "x3": rng.integers(0, 4, n),
    }
    found = infer(tmp_path, columns)
    sides = {field.name: field.side for field in found.schema.fields}
    context = {"user_id", "x1", "hour", "browser", "user_ads"}
    assert sides == {name: "context" if name in context else "candidate" for name in columns if name != "click"}
    assert found.reasons["x3"].endswith("not known: nothing tells")
    assert found.reasons["x1"].endswith("the same in all rows of one 'user_id'")


def test_what_differs_within_a_page_view_is_of_the_candidate(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    pages = np.repeat(np.arange(400), 5)
    columns = {
        "click": rng.integers(0, 2, 2_000),
        "user_id": rng.integers(0, 50, 400)[pages],
        "ts": 1_717_200_000 + 61 * pages,
        "slot": np.tile(np.arange(5), 400),
        "x1": rng.integers(0, 9, 400)[pages],
        "ad_id": rng.integers(0, 30, 2_000),
    }
    sides = {field.name: field.side for field in infer(tmp_path, columns).schema.fields}
    assert (sides["slot"], sides["x1"]) == ("candidate", "context")


def test_the_sample_is_taken_from_several_files(tmp_path: Path) -> None:
    for day in range(20):
        columns = {"weekday": [day % 7] * 10, "click": [0, 1] * 5}
        pl.DataFrame(columns).write_parquet(tmp_path / f"day-{day:02d}.parquet")
    (tmp_path / "day-99.parquet").write_bytes((tmp_path / "day-00.parquet").read_bytes())
    pl.DataFrame({"another": [1]}).write_parquet(tmp_path / "day-98.parquet")  # refused when all is read
    assert kinds(infer_schema([str(tmp_path / "day-*.parquet")], "click")) == {"weekday": "categorical"}


def test_the_sample_is_spread_over_a_large_parquet_file(tmp_path: Path) -> None:
    n = SAMPLE_ROWS + 100_000
    found = infer(tmp_path, {"month": np.arange(n) * 12 // n, "ts": np.arange(n), "click": np.arange(n) % 2})
    assert found.reasons["month"].startswith("categorical: 12 different")
    assert found.schema.split.column == "ts"


def test_an_unreadable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "log.csv"
    file.write_text("click,a\n0,1\n")
    monkeypatch.setattr(pl, "scan_csv", _refuse)  # root may read everything
    with pytest.raises(LogError, match=r"log\.csv: cannot be read"):
        infer_schema([str(file)], "click")


def _refuse(*args: object, **options: object) -> None:
    raise PermissionError(13, "Permission denied")


def test_a_log_with_only_a_label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="no column but 'click'"):
        infer(tmp_path, {"nonclk": [1, 0] * 500, "click": [0, 1] * 500})
