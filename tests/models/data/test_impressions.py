from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from models.data.columns import read_times
from models.data.impressions import read_chunks, read_frame
from models.data.log_files import find_files
from models.data.split import Parts, split_rows
from models.errors import LogError, SchemaError
from models.schema.feature_schema import FeatureSchema

FIELDS = [
    {"name": "user", "kind": "categorical"},
    {"name": "price", "kind": "numeric"},
    {"name": "seen", "kind": "sequence"},
]


def make_schema(**overrides: Any) -> FeatureSchema:
    return FeatureSchema.model_validate({"label": "click", "field": FIELDS, **overrides})


def make_frame(**overrides: Any) -> pl.DataFrame:
    columns = {
        "click": [0, 1, 0],
        "user": [7, None, 9],
        "price": [1.5, None, 2.0],
        "seen": [[1, 2], [], None],
        **overrides,
    }
    return pl.DataFrame(columns, strict=False)


def write(path: Path, frame: pl.DataFrame) -> Path:
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    else:
        flat = frame.with_columns(pl.col("seen").cast(pl.List(pl.String)).list.join("|"))
        flat.write_csv(path, separator="\t" if path.suffix == ".tsv" else ",")
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".tsv"])
def test_every_format_reads_to_the_same_frame(tmp_path: Path, suffix: str) -> None:
    log = read_frame([str(write(tmp_path / f"log{suffix}", make_frame()))], make_schema())
    assert log["click"].to_list() == [0, 1, 0]
    assert log["user"].to_list() == ["7", None, "9"]
    assert log["price"].to_list() == [1.5, None, 2.0]
    assert [v or None for v in log["seen"].to_list()] == [["1", "2"], None, None]


def test_a_file_without_header_takes_its_names_from_the_schema(tmp_path: Path) -> None:
    (tmp_path / "log.tsv").write_text('1\t68fd"1\t2.5\ta|b\n0\t\t\t\n', encoding="utf-8")
    log = read_frame([str(tmp_path / "log.tsv")], make_schema(log={"columns": ["click", "user", "price", "seen"]}))
    assert log.rows() == [(1, '68fd"1', 2.5, ["a", "b"]), (0, None, None, None)]


def test_whole_floats_with_nulls_are_integer_tokens(tmp_path: Path) -> None:
    path = write(tmp_path / "log.parquet", make_frame(user=[3.0, None, 4.0]))
    (frame,) = read_chunks([str(path)], make_schema())
    assert frame["user"].to_list() == ["3", None, "4"]


def test_ids_above_2_to_the_53_stay_apart(tmp_path: Path) -> None:
    path = write(tmp_path / "log.parquet", make_frame(user=[2**53, 2**53 + 1, 2**63 - 1]))
    assert read_frame([str(path)], make_schema())["user"].to_list() == [str(2**53), str(2**53 + 1), str(2**63 - 1)]


def test_files_and_globs_are_read_in_order_each_once(tmp_path: Path) -> None:
    names = [write(tmp_path / f"d{i}.parquet", make_frame()) for i in (2, 1)]
    assert find_files([str(tmp_path / "d*.parquet"), str(names[0])]) == sorted(names)
    assert read_frame([str(tmp_path / "d*.parquet")], make_schema()).height == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"user": pl.Series([2.0**60, None, 2.0])},
            "row 1, column 'user': expected a token, which a float of this size",
        ),
        ({"click": [0, 2, 1]}, "row 2, column 'click': expected a label 0 or 1 (or write the value of a click as"),
        ({"click": [0, 1, None]}, "(or write the value of a click as the schema's 'positive'), got a null"),
        ({"click": [0, 1, -1]}, "column 'click': has labels 0 and -1"),
        ({"click": [1, 1, 1]}, "column 'click': every label is 1"),
        ({"price": ["1", "2", "cheap"]}, "row 3, column 'price': expected a number, got 'cheap'"),
        ({"price": [[1], [2], [3]]}, "column 'price': is List(Int64), expected numbers"),
        ({"user": [[1], [2], [3]]}, "column 'user': is List(Int64), expected tokens"),
        ({"seen": [1, 2, 3]}, "column 'seen': is Int64, expected lists"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_errors_name_row_and_column(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "log.parquet", make_frame(**change))
    with pytest.raises(LogError) as caught:
        read_frame([str(path)], make_schema())
    assert message in str(caught.value)


def test_a_missing_column_is_named_with_its_file(tmp_path: Path) -> None:
    path = write(tmp_path / "log.parquet", make_frame().drop("price"))
    with pytest.raises(
        LogError, match=r"log\.parquet: column 'price' is missing, the file has 'click', 'user', 'seen'"
    ):
        read_frame([str(path)], make_schema())


def test_a_column_that_the_schema_names_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("0,7,1,a,8\n1,8,2,b,9\n")
    schema = make_schema(log={"columns": ["click", "user", "price", "seen", "user"]})
    with pytest.raises(LogError, match=r"log\.csv: column 'user': is named twice in the schema's log\.columns"):
        read_frame([str(tmp_path / "log.csv")], schema)


def test_a_type_may_change_between_files(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", make_frame())
    write(tmp_path / "b.parquet", make_frame(user=["u1", "u2", "u3"]))
    assert read_frame([str(tmp_path)], make_schema())["user"].to_list() == ["7", None, "9", "u1", "u2", "u3"]


def test_no_file_and_unknown_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="no such file"):
        read_frame([str(tmp_path / "none*.csv")], make_schema())
    (tmp_path / "log.docx").write_text("x", encoding="utf-8")
    with pytest.raises(LogError, match="unknown file type"):
        read_frame([str(tmp_path / "log.docx")], make_schema())


def split(frame: pl.DataFrame, schema: FeatureSchema, seed: int) -> Parts:
    return split_rows(frame["click"].to_numpy(), frame["t"] if schema.split.column else None, schema, seed)


def make_timed(n: int) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    return pl.DataFrame({"click": rng.integers(0, 2, n).astype(np.int8), "t": np.sort(rng.integers(0, n // 4, n))})


def test_a_time_split_puts_later_rows_into_later_parts() -> None:
    frame, schema = make_timed(1_000), make_schema(split={"column": "t"})
    parts = split(frame, schema, seed=0)
    t = frame["t"].to_numpy()
    assert t[parts.train].max() < t[parts.validation].min() <= t[parts.validation].max() < t[parts.test].min()
    assert len(parts.train) + len(parts.validation) + len(parts.test) == 1_000
    assert abs(len(parts.test) - 100) < 20


def test_boundaries_split_at_the_values_given() -> None:
    frame, schema = make_timed(1_000), make_schema(split={"column": "t", "validation_from": 150, "test_from": 200})
    parts, t = split(frame, schema, seed=0), frame["t"].to_numpy()
    assert (t[parts.train] < 150).all()
    assert ((t[parts.validation] >= 150) & (t[parts.validation] < 200)).all()
    assert (t[parts.test] >= 200).all()


@pytest.mark.parametrize(
    ("dtype", "boundary"),
    [
        (pl.Date, "2026-01-03"),
        (pl.Datetime("ms"), "2026-01-03"),
        (pl.Datetime("us"), "2026-01-03 00:00:00"),
        (pl.Datetime("ms", "UTC"), "2026-01-03"),
        (pl.Datetime("ms", "UTC"), "2026-01-03T01:00:00+01:00"),
    ],
)
def test_a_boundary_given_as_text_splits_dates_and_times(dtype: pl.DataType, boundary: str) -> None:
    days = pl.Series([f"2026-01-0{1 + i // 10}" for i in range(40)])
    schema = make_schema(split={"column": "t", "validation_from": boundary, "test_fraction": 0.0})
    times = read_times(pl.DataFrame({"t": days.str.to_date().cast(dtype)}), schema)
    parts = split_rows(np.arange(40) % 2, times, schema, 0)
    assert parts.train.tolist() == list(range(20))


@pytest.mark.parametrize("boundary", ["soon", "03.01.2026"])
def test_a_boundary_that_is_not_a_time_of_the_column_is_refused(boundary: str) -> None:
    times = pl.Series(["2026-01-01", "2026-01-02"]).str.to_date().cast(pl.Datetime("ms"))
    schema = make_schema(split={"column": "t", "validation_from": boundary})
    with pytest.raises(SchemaError, match="cannot be compared"):
        split_rows(np.array([0, 1]), times, schema, 0)


def test_without_time_rows_are_divided_at_random_by_seed() -> None:
    frame, schema = make_timed(1_000), make_schema()
    a, b, c = (split(frame, schema, seed) for seed in (1, 1, 2))
    assert a.test.tolist() == b.test.tolist() != c.test.tolist()
    assert sorted([*a.train, *a.validation, *a.test]) == list(range(1_000))


def test_a_part_without_both_labels_is_refused() -> None:
    frame = pl.DataFrame({"click": [0, 1] * 50 + [0] * 50, "t": range(150)}, schema_overrides={"click": pl.Int8})
    with pytest.raises(SchemaError, match="validation part has 15 rows and 0 clicks"):
        split(frame, make_schema(split={"column": "t"}), seed=0)
