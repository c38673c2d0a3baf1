"""Which column of a log is the time, how it is written, and where the parts end."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from models.data.impressions import TIME, read_frame
from models.data.moments import formats_of, likeliest, parse_clocks, parse_moments
from models.data.schema_inference import InferredSchema, infer_schema
from models.data.split import split_rows
from models.data.time_format import with_time_format
from models.errors import SchemaError
from models.features.moments import DERIVE, parse_clock, parse_moment
from models.schema.feature_schema import FeatureSchema
from tests.models.data.logs import START, encode, flat, make_log, moments
from tests.models.data.test_log_formats import posted

TIMES = moments()
PATTERNS = (
    "%d.%m.%Y", "%d.%m.%Y %H:%M", "%d/%m/%Y %H:%M:%S", "%m/%d/%Y", "%m/%d/%Y %I:%M %p", "%m/%d/%Y %I:%M:%S %p", "%d-%m-%Y",
    "%d.%m.%y", "%Y/%m/%d", "%Y/%m/%d %H:%M:%S", "%b %d, %Y", "%b %d, %Y %H:%M", "%d %b %Y", "%d-%b-%Y %H:%M:%S", "%d %B %Y",
    "%B %d, %Y", "%d/%b/%Y:%H:%M:%S +0000", "%a, %d %b %Y %H:%M:%S", "%a %b %d %H:%M:%S %Y", "%Y-%m-%d", "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S+00:00", "%Y-%m-%d %H:%M:%S UTC", "%Y-%m-%d %H:%M", "%Y%m%d", "%y%m%d%H", "%Y%m%d%H",
    "%Y%m%d%H%M", "%Y%m%d%H%M%S",
)  # fmt: skip


def micros(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("shuffled", [False, True])
def test_times_are_read_as_they_are_written_by_logs_and_requests_alike(pattern: str, shuffled: bool) -> None:
    order = np.random.default_rng(0).permutation(len(TIMES)) if shuffled else np.arange(len(TIMES))
    texts = pl.Series("t", [TIMES[i].strftime(pattern) for i in order])
    read = pattern.replace(" +0000", " %z").replace("Z", "%z").replace("+00:00", "%z").replace(" UTC", "")
    expected = [
        datetime.strptime(TIMES[i].strftime(pattern.replace(" UTC", "")), read).replace(tzinfo=UTC) for i in order
    ]
    variants = [texts, texts.cast(pl.Int64)] if texts[0].isdigit() else [texts]
    for column in variants:
        written = likeliest(formats_of(column), column)
        assert parse_moments(column, written).to_physical().to_list() == list(map(micros, expected))
        assert [parse_moment(value, written) for value in column.to_list()] == list(map(micros, expected))


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("kind", [int, float, str])
def test_so_are_epochs_of_every_unit(unit: str, kind: type) -> None:
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    values = [kind(int(moment.timestamp()) * per_second) for moment in TIMES]
    written = formats_of(pl.Series("ts", values))[0]
    assert written == f"epoch_{unit}"
    assert parse_moments(pl.Series("ts", values), written).to_physical().to_list() == list(map(micros, TIMES))
    assert [parse_moment(value, written) for value in values] == list(map(micros, TIMES))


@pytest.mark.parametrize(
    "values", [["Friday"], ["07:30:00"], ["tv", "phone"], ["1005", "1006"], [3.5], ["2024"], ["99.99.2024"]]
)
def test_what_is_no_date_is_not_read_as_one(values: list[Any]) -> None:
    assert formats_of(pl.Series("day", values)) == []


def test_times_of_the_day_are_read_alike() -> None:
    texts = [
        "00:00",
        "7:05",
        "23:59:59",
        "23:59:59.5",
        "12:00 AM",
        "1:30 pm",
        "7",
        "23.0",
        "24",
        "24:00",
        "13:00 PM",
        "7h",
    ]
    found = parse_clocks(pl.Series(texts)).to_list()
    assert found == [parse_clock(text) for text in texts]
    assert found[:6] == [0, 25_500_000_000, 86_399_000_000, 86_399_500_000, 0, 48_600_000_000]
    assert found[-4:] == [None] * 4


def test_eight_days_in_a_row_are_not_the_sixth_of_eight_months() -> None:
    texts = pl.Series("t", [f"{START + timedelta(hours=i):%m/%d/%Y}" for i in range(8 * 24)])
    assert likeliest(formats_of(texts), texts) == "%m/%d/%Y"


def test_hours_and_weekdays_are_those_of_the_calendar() -> None:
    assert [DERIVE["hour"](micros(t)) for t in TIMES] == [t.hour for t in TIMES]
    assert [DERIVE["weekday"](micros(t)) for t in TIMES] == [t.weekday() for t in TIMES]


def infer(folder: Path, **columns: Any) -> InferredSchema:
    frame = flat(make_log()).drop("ts").with_columns(pl.Series(name, values) for name, values in columns.items())
    frame.write_parquet(folder / "log.parquet")
    return infer_schema([str(folder / "log.parquet")], "click")


DAYS = [t.date() for t in TIMES]


@pytest.mark.parametrize(
    ("columns", "column", "clock"),
    [
        ({"date": DAYS, "time": [f"{t:%H:%M:%S}" for t in TIMES]}, "date", "time"),
        ({"date": [f"{d:%d.%m.%Y}" for d in DAYS], "hour": [t.hour for t in TIMES]}, "date", "hour"),
        ({"event_ts": TIMES, "date": DAYS}, "event_ts", None),
        ({"event_time": [None if i == 9 else t for i, t in enumerate(TIMES)]}, "event_time", None),
        ({"day": [f"{d:%A}" for d in DAYS]}, None, None),
        ({"day": [d.weekday() for d in DAYS]}, None, None),
        ({"time": [f"{t:%H:%M}" for t in TIMES]}, None, None),
        ({"birthday": [date(1970 + i * 7 % 30, 1, 1) for i in range(400)], "when": TIMES}, "when", None),
        ({"signup_date": [date(2020, 1 + i * 7 % 12, 1) for i in range(400)], "ts": range(400)}, "ts", None),
        ({"watch_time": [i * 13 % 97 for i in range(400)]}, None, None),
        ({"duration_ms": [1_700_000_000 + i * 13 % 97 for i in range(400)]}, None, None),
        (
            {"timestamp": [i * 7_919 % 100_003 for i in range(400)], "time_ms": [micros(t) // 1_000 for t in TIMES]},
            "time_ms",
            None,
        ),
    ],
)
def test_of_several_columns_the_moment_of_the_impression_is_taken(
    tmp_path: Path, columns: dict[str, Any], column: str | None, clock: str | None
) -> None:
    found = infer(tmp_path, **columns)
    assert (found.schema.split.column, found.schema.split.clock) == (column, clock)
    assert bool(found.warnings) == (column is None or "event_time" in columns)


def test_a_column_that_only_clicks_have_is_neither_time_nor_field(tmp_path: Path) -> None:
    click = make_log()["click"].to_list()
    times = [t if c else None for t, c in zip(TIMES, click, strict=True)]
    found = infer(tmp_path, click_time=times, ts=TIMES, conversion=[int(c and i % 2) for i, c in enumerate(click)])
    assert found.schema.split.column == "ts"
    assert all("only clicks have" in found.reasons[name] for name in ("click_time", "conversion"))
    assert {"click_time", "conversion"}.isdisjoint(field.name for field in found.schema.fields)


def test_columns_that_number_or_part_or_count_the_rows_are_left_out(tmp_path: Path) -> None:
    counts = np.random.default_rng(0).integers(1, 9, 400)
    found = infer(
        tmp_path, index=range(400), row=range(1_000, 1_400), split=["train", "test"] * 200, impressions=counts
    )
    assert {"index", "row", "split", "impressions"}.isdisjoint(field.name for field in found.schema.fields)


def test_derived_fields_are_those_of_the_time_and_a_request_carries_either(tmp_path: Path) -> None:
    frame = flat(make_log())
    frame.write_csv(tmp_path / "log.csv")
    encoded = encode(tmp_path / "log.csv")
    assert [f.name for f in encoded.inferred.schema.fields if f.derived] == ["hour", "weekday"]
    rows = frame.to_dicts()
    np.testing.assert_array_equal(posted(encoded, rows), encoded.ids)
    for row, moment in zip(rows, TIMES, strict=True):
        row |= {"hour": moment.hour, "weekday": str(moment.weekday()), "ts": None}
    np.testing.assert_array_equal(posted(encoded, rows), encoded.ids)
    own = posted(encoded, [{"ts": rows[0]["ts"] or 0, "hour": 7}])
    np.testing.assert_array_equal(own, posted(encoded, [{"hour": 7, "weekday": DERIVE["weekday"](0)}]))


def test_a_day_and_a_time_of_the_day_are_one_moment(tmp_path: Path) -> None:
    parts = {"date": [f"{t:%d.%m.%Y}" for t in TIMES], "time": [f"{t:%I:%M %p}" for t in TIMES]}
    frame = flat(make_log()).drop("ts").with_columns(pl.Series(name, values) for name, values in parts.items())
    frame.sample(fraction=1.0, shuffle=True, seed=1).write_csv(tmp_path / "log.csv")
    encoded = encode(tmp_path / "log.csv")
    schema = with_time_format([str(tmp_path / "log.csv")], encoded.inferred.schema)
    times = read_frame([str(tmp_path / "log.csv")], schema)[TIME]
    assert times.to_list() == [t.replace(second=0, tzinfo=None) for t in TIMES]
    rows = pl.read_csv(tmp_path / "log.csv", infer_schema=False).to_dicts()
    np.testing.assert_array_equal(posted(encoded, rows), encoded.ids)


SCHEMA = {"label": "click", "field": [{"name": "user_id", "kind": "categorical"}]}


def split(times: list[Any], **options: Any) -> list[int]:
    schema = FeatureSchema.model_validate({**SCHEMA, "split": {"column": "t", **options}})
    parts = split_rows(np.arange(len(times)) % 2, pl.Series("t", times, dtype=pl.Datetime("us")), schema, 0)
    return [len(rows) for rows in parts.by_name.values()]


def test_parts_are_whole_days_or_in_order_within_a_day() -> None:
    hourly = [START.replace(tzinfo=None) + timedelta(hours=i) for i in range(10 * 24)]
    assert split(hourly) == [192, 24, 24]
    assert split(hourly[: 7 * 24]) == [120, 24, 24]
    assert split(hourly[: 2 * 24]) == [38, 5, 5]
    assert split([START.replace(tzinfo=None)] * 100) == [80, 10, 10]
    assert split(hourly, test_fraction=0.0) == [216, 24, 0]


def test_rows_without_a_time_are_training_rows() -> None:
    hourly: list[Any] = [START.replace(tzinfo=None) + timedelta(hours=i) for i in range(10 * 24)]
    hourly[-1] = hourly[100] = None
    schema = FeatureSchema.model_validate({**SCHEMA, "split": {"column": "t"}})
    parts = split_rows(np.arange(240) % 2, pl.Series("t", hourly, dtype=pl.Datetime("us")), schema, 0)
    assert set(parts.train[:2].tolist()) == {100, 239}


def test_a_boundary_outside_the_log_names_its_range() -> None:
    with pytest.raises(SchemaError, match=r"the log goes from 2024-06-01 to 2024-06-02"):
        split([datetime(2024, 6, 1), datetime(2024, 6, 2)] * 20, validation_from="2025-01-01")


def test_a_time_column_that_holds_no_times_is_refused(tmp_path: Path) -> None:
    pl.DataFrame({"click": [0, 1], "user_id": [1, 2], "t": ["Friday", "Monday"]}).write_csv(tmp_path / "log.csv")
    schema = FeatureSchema.model_validate({**SCHEMA, "split": {"column": "t"}})
    with pytest.raises(SchemaError, match="'Friday', which cannot be read as a time"):
        with_time_format([str(tmp_path / "log.csv")], schema)
