"""The simulated log is repeatable, calibrated by construction and long-tailed, and no row knows of later ones."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from models.errors import LogError
from models.schema.feature_schema import load_schema
from models.simulator.__main__ import main
from models.simulator.market import MAX_CLICKED, SimulatedDay, Traffic, simulate_days
from models.simulator.simulation import BayesScore, write_log

TRAFFIC = Traffic(rows=100_000, days=5, seed=7, users=2_500, ads=400, base_rate=0.05)
SMALL = Traffic(rows=3_000, days=2, seed=7, users=100, ads=30)


@pytest.fixture(scope="module")
def days() -> Sequence[SimulatedDay]:
    return list(simulate_days(TRAFFIC))


@pytest.fixture(scope="module")
def impressions(days: Sequence[SimulatedDay]) -> pl.DataFrame:
    return pl.concat([day.impressions for day in days])


@pytest.fixture(scope="module")
def truth(days: Sequence[SimulatedDay]) -> np.ndarray:
    return np.concatenate([day.true_probability for day in days])


def content_hash(traffic: Traffic) -> str:
    digest = hashlib.sha256()
    for day in simulate_days(traffic):
        lists = pl.col("clicked_ads").cast(pl.List(pl.String)).list.join("|")
        digest.update(day.impressions.with_columns(lists).write_csv().encode())
    return digest.hexdigest()


def file_hashes(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())}


def read(directory: Path, name: str) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(path) for path in sorted(directory.glob(f"{name}-*.parquet"))])


def test_the_same_seed_gives_the_same_content_today_and_in_later_versions() -> None:
    # Changes with the simulator, and may with numpy's generators; nothing else should change it.
    assert content_hash(SMALL) == "20f91c2954eec495d41d24b71a1398eb8b0d8c0045fc101c1002a1d4bf09eaf3"


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_log(SMALL, tmp_path / name)
    hashes = file_hashes(tmp_path / "a")
    assert hashes == file_hashes(tmp_path / "b")
    assert list(hashes) == [
        *("impressions-2026-01-05.parquet", "impressions-2026-01-06.parquet", "schema.toml"),
        *("truth-2026-01-05.parquet", "truth-2026-01-06.parquet"),
    ]


def test_another_seed_gives_another_log() -> None:
    other = Traffic(rows=3_000, days=2, seed=8, users=100, ads=30)
    assert content_hash(SMALL) != content_hash(other)


@pytest.mark.parametrize("base_rate", [0.01, 0.05, 0.4])
def test_the_mean_probability_is_near_the_base_rate_asked_for(base_rate: float) -> None:
    traffic = Traffic(rows=20_000, days=3, seed=1, users=500, ads=100, base_rate=base_rate)
    for day in simulate_days(traffic):
        assert day.true_probability.mean() == pytest.approx(base_rate, rel=0.065)


def test_clicks_are_calibrated_in_every_decile_of_the_truth(impressions: pl.DataFrame, truth: np.ndarray) -> None:
    click = impressions["click"].to_numpy()
    for rows in np.array_split(np.argsort(truth, kind="stable"), 10):
        p = truth[rows]
        assert abs(int(click[rows].sum()) - p.sum()) < 4.5 * np.sqrt((p * (1 - p)).sum())


def test_the_true_probabilities_have_a_moderate_auc(impressions: pl.DataFrame, truth: np.ndarray) -> None:
    assert truth.min() > 0.0
    assert truth.max() < 1.0
    area = BayesScore.of(truth, impressions["click"].to_numpy()).auc
    assert area is not None
    assert 0.72 < area < 0.80


@pytest.mark.parametrize(("column", "share"), [("ad_id", 0.5), ("user_id", 0.3), ("site", 0.5)])
def test_a_tenth_of_the_values_has_much_of_the_impressions(
    impressions: pl.DataFrame, column: str, share: float
) -> None:
    counts = impressions[column].value_counts(sort=True)["count"]
    assert counts.head(len(counts) // 10).sum() > share * impressions.height


def test_every_later_day_has_ads_that_no_day_before_it_had(days: Sequence[SimulatedDay]) -> None:
    seen: set[int] = set(days[0].impressions["ad_id"])
    for day in days[1:]:
        today = day.impressions["ad_id"]
        assert 0.002 < (~today.is_in(list(seen))).mean() < 0.3  # type: ignore[operator]
        seen |= set(today)


def test_popular_ads_retire(days: Sequence[SimulatedDay]) -> None:
    top = days[0].impressions["ad_id"].value_counts(sort=True)["ad_id"].head(200)
    assert not set(top) <= set(days[-1].impressions["ad_id"])


def test_nulls_are_where_they_are_expected_and_nowhere_else(impressions: pl.DataFrame) -> None:
    with_nulls = {name for name in impressions.columns if impressions[name].null_count()}
    assert with_nulls == {"age_band", "page_category", "clicked_ads", "price"}
    assert not impressions["price"].is_nan().any()


def test_rows_are_in_order_of_time_and_hours_agree_with_it(days: Sequence[SimulatedDay]) -> None:
    for day in days:
        time = day.impressions["time"]
        assert time.dtype == pl.Datetime("ms", "UTC")
        assert time.is_sorted()
        assert (time.dt.date() == day.day).all()
        assert (time.dt.hour() == day.impressions["hour"]).all()
        assert day.impressions["ad_age_days"].min() >= 0  # type: ignore[operator]


def test_click_histories_hold_all_clicks_of_earlier_days_and_none_of_this_one() -> None:
    traffic = Traffic(rows=12_000, days=4, seed=5, users=120, ads=60, base_rate=0.3)
    expected: dict[str, list[int]] = {}
    compared, full = 0, 0
    for day in simulate_days(traffic):
        rows = day.impressions.select("user_id", "clicked_ads", "ad_id", "click").rows()
        shown = {user: history or [] for user, history, _, _ in rows}
        for user, history, _, _ in rows:
            assert (history or []) == expected.get(user, shown[user])
            assert history is None or 1 <= len(history) <= MAX_CLICKED
            compared += user in expected
            full += len(history or []) == MAX_CLICKED
        expected |= shown
        for user, _, ad, click in rows:
            if click:
                expected[user] = [*expected[user], ad][-MAX_CLICKED:]
    assert compared > 8_000
    assert full > 1_000


def test_past_clicks_predict_future_ones(impressions: pl.DataFrame) -> None:
    category = dict(impressions.select("ad_id", "ad_category").unique().iter_rows())
    rows = impressions.select("clicked_ads", "ad_category", "click").drop_nulls("clicked_ads").rows()
    repeated = [click for history, shown, click in rows if shown in {category.get(ad) for ad in history}]
    assert np.mean(repeated) > 1.1 * np.mean([click for _, _, click in rows])


def test_dropping_negatives_keeps_every_click_and_the_share_asked_for(tmp_path: Path) -> None:
    traffic = Traffic(rows=40_000, days=2, seed=3, users=500, ads=100)
    for name, kept in (("all", 1.0), ("some", 0.1)):
        write_log(traffic, tmp_path / name, negatives_kept=kept)
    whole = read(tmp_path / "all", "impressions").with_columns(read(tmp_path / "all", "truth"))
    fewer = read(tmp_path / "some", "impressions").with_columns(read(tmp_path / "some", "truth"))
    clicked = pl.col("click") == 1
    assert fewer.filter(clicked).equals(whole.filter(clicked))
    num_negatives, left = whole.filter(~clicked).height, fewer.filter(~clicked).height
    assert abs(left - 0.1 * num_negatives) < 4 * np.sqrt(num_negatives * 0.09)
    # Truth is still that of the whole traffic: odds × 0.1 would be the log's.
    p = fewer["true_probability"].to_numpy()
    in_log = p / (p + 0.1 * (1 - p))
    assert abs(fewer["click"].sum() - in_log.sum()) < 4 * np.sqrt((in_log * (1 - in_log)).sum())
    assert load_schema(tmp_path / "some" / "schema.toml").negatives_kept == 0.1


def test_the_schema_names_every_column_but_label_and_time_and_no_truth(tmp_path: Path) -> None:
    write_log(SMALL, tmp_path)
    schema = load_schema(tmp_path / "schema.toml")
    frame = read(tmp_path, "impressions")
    assert {field.name for field in schema.fields} == set(frame.columns) - {"click", "time"}
    assert set(schema.columns) == set(frame.columns)
    assert read(tmp_path, "truth").columns == ["true_probability"]
    assert read(tmp_path, "truth").height == frame.height


def test_csv_and_parquet_hold_the_same_log(tmp_path: Path) -> None:
    write_log(SMALL, tmp_path / "csv", "csv")
    write_log(SMALL, tmp_path / "parquet", "parquet")
    name = "impressions-2026-01-06"
    parquet = pl.read_parquet(tmp_path / "parquet" / f"{name}.parquet")
    text = pl.read_csv(
        tmp_path / "csv" / f"{name}.csv", schema_overrides={"clicked_ads": pl.String}, try_parse_dates=True
    )
    lists = pl.col("clicked_ads").str.split("|").cast(pl.List(pl.Int64))
    assert text.with_columns(lists).cast(parquet.schema).equals(parquet)


def test_a_directory_with_a_log_is_not_changed(tmp_path: Path) -> None:
    write_log(SMALL, tmp_path)
    before = file_hashes(tmp_path)
    with pytest.raises(LogError, match=r"already holds 'impressions-2026-01-05\.parquet'"):
        write_log(Traffic(rows=100, days=1, seed=1, users=10, ads=10), tmp_path)
    assert file_hashes(tmp_path) == before


def test_a_directory_that_cannot_be_made_is_a_log_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LogError, match="cannot be written"):
        write_log(SMALL, tmp_path / "file" / "logs")


def test_the_command_says_where_the_files_are_and_what_to_run_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--rows", "2000", "--days", "2", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "2,000 impressions" in out
    assert "log loss 0." in out
    command = f"--data '{tmp_path}/impressions-*.parquet' --schema {tmp_path}/schema.toml --out artifacts"
    assert out.endswith(f"  ctrserve train {command}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--days", "0"], "--days"),
        (["--rows", "5", "--days", "6"], "--days"),
        (["--seed", "-1"], "--seed"),
        (["--users", "0"], "--users"),
        (["--ads", "0"], "--ads"),
        (["--base-rate", "0"], "--base-rate"),
        (["--negatives-kept", "1.5"], "--negatives-kept"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_options_out_of_range_are_refused(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--out", str(tmp_path / "logs")]) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}: expected")
    assert not (tmp_path / "logs").exists()


def test_the_smallest_market_works(tmp_path: Path) -> None:
    total, last = write_log(Traffic(rows=3, days=3, seed=0, users=1, ads=1), tmp_path)
    assert (total.rows, last.rows) == (3, 1)
    assert read(tmp_path, "impressions").height == 3
