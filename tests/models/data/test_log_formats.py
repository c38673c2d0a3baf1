"""One log, however it is written, is one log: the same tokens, the same rows of the table, and the same from a request."""

from __future__ import annotations

import csv as csv_module
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from app.wire.predict_request import PredictWire
from models.data.log_files import find_files
from models.errors import LogError
from tests.models.data.logs import WRITERS, Encoded, encode, flat, in_parts, make_log, moments


@pytest.fixture(scope="module")
def log() -> pl.DataFrame:
    return make_log()


@pytest.fixture(scope="module")
def expected(log: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Encoded:
    return encode(WRITERS["parquet"](log, tmp_path_factory.mktemp("parquet")))


@pytest.mark.parametrize("name", WRITERS)
def test_every_way_to_write_a_log_gives_the_same_rows_of_the_table(
    log: pl.DataFrame, expected: Encoded, tmp_path: Path, name: str
) -> None:
    found = encode(WRITERS[name](log, tmp_path))
    assert found.tokens == expected.tokens
    assert [f.dtype for f in found.encoder.schema.fitted] == [f.dtype for f in expected.encoder.schema.fitted]
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.labels, expected.labels)


def posted(encoded: Encoded, rows: list[dict[str, Any]]) -> np.ndarray:
    """Return the table rows that requests with these rows get, from both readers."""
    wire = PredictWire(encoded.encoder.schema, encoded.encoder, max_rows=len(rows))
    body = json.dumps({"instances": rows}).encode()
    by_column = json.dumps({"inputs": {name: [row.get(name) for row in rows] for name in rows[0]}}).encode()
    found = wire.read(body).batch
    for other in (wire.read_with_pydantic(body), wire.read(by_column), wire.read_with_pydantic(by_column)):
        np.testing.assert_array_equal(found.ids, other.batch.ids)
        np.testing.assert_array_equal(found.offsets, other.batch.offsets)
    return found.ids


def test_rows_of_a_log_that_are_posted_back_get_the_rows_of_training(log: pl.DataFrame, expected: Encoded) -> None:
    np.testing.assert_array_equal(posted(expected, log.to_dicts()), expected.ids)


@pytest.mark.parametrize(
    "name",
    ["csv", "csv, carets", "csv, commas in lists", "csv, lists of Python", "txt, semicolons", "csv, words for nulls"],
)
def test_so_do_rows_of_text_that_are_posted_as_they_are_in_the_file(
    log: pl.DataFrame, expected: Encoded, tmp_path: Path, name: str
) -> None:
    path = WRITERS[name](log, tmp_path)
    encoded = encode(path)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv_module.DictReader(file, delimiter=";" if "semicolons" in name else ","))
    np.testing.assert_array_equal(posted(encoded, rows), expected.ids)


def test_one_value_in_any_spelling_is_one_value(expected: Encoded) -> None:
    spellings: dict[str, list[list[Any]]] = {
        "user_id": [[1005, 1005.0, "1005", "1005.0", "1005.00"], [None, ""], [2**64 - 1, str(2**64 - 1)]],
        "device": [["tv"], [None, ""], ["7", 7, 7.0], ["true", True, "True", "TRUE"]],
        "is_new": [[True, "true", "True", 1, "1", 1.0], [False, "FALSE", 0, "0.0"], [None, ""]],
        "price": [[2.5, "2.5", "2.50", " 2.5", "+2.5", "25e-1"], [3, 3.0, "3."], [None, "", "NaN", "nan", "inf", "-Infinity"]],
        "tags": [[["g1", "g2"], "g1|g2", ["g1", None, "", "g2"], "|g1||g2|"], [None, [], "", [None], [""]]],
    }  # fmt: skip
    for field, groups in spellings.items():
        for same in groups:
            found = {tuple(posted(expected, [{field: value}]).tolist()) for value in same}
            assert len(found) == 1, (field, same)


def test_a_long_text_counts_by_its_first_characters_everywhere(log: pl.DataFrame, tmp_path: Path) -> None:
    agents = [f"Mozilla {'x' * 300} {'é' * i}" if i % 2 else f"{'é' * 300}{i % 3}" for i in range(log.height)]
    frame = flat(log.with_columns(pl.Series("agent", [agents[i % 9] for i in range(log.height)])))
    frame.write_csv(tmp_path / "log.csv")
    encoded = encode(tmp_path / "log.csv")
    np.testing.assert_array_equal(posted(encoded, frame.to_dicts()), encoded.ids)


def test_lists_longer_than_any_limit_are_posted_back(tmp_path: Path) -> None:
    lists = [[f"t{j % 7}" for j in range(i % 5 * 400)] for i in range(60)]
    frame = pl.DataFrame({"click": [0, 1] * 30, "seen": lists, "ad": [f"a{i % 4}" for i in range(60)]})
    frame.write_parquet(tmp_path / "log.parquet")
    encoded = encode(tmp_path / "log.parquet")
    np.testing.assert_array_equal(posted(encoded, frame.drop("click").to_dicts()), encoded.ids)


def test_partitions_in_the_names_of_folders_are_columns(log: pl.DataFrame, tmp_path: Path) -> None:
    days = flat(log).with_columns(pl.Series("date", [f"{m:%Y-%m-%d}" for m in moments()])).drop("ts")
    for (day,), part in days.partition_by("date", as_dict=True, maintain_order=True).items():
        folder = tmp_path / "log" / f"date={day}" / "country=a%2Fb"
        folder.mkdir(parents=True)
        part.drop("date").write_parquet(folder / "part-0.parquet")
    encoded = encode(tmp_path / "log")
    assert encoded.inferred.schema.split.column == "date"
    assert "one value only" in encoded.inferred.reasons["country"]
    np.testing.assert_array_equal(posted(encoded, days.to_dicts()), encoded.ids)


def test_what_lies_beside_the_data_is_passed_over(log: pl.DataFrame, tmp_path: Path) -> None:
    folder = in_parts(log, tmp_path)
    names = ["part-0.csv", "part-1.csv", "part-2.parquet"]
    for pattern in (folder, folder / "*", tmp_path / "**" / "*"):
        assert [path.name for path in find_files([str(pattern)])] == names
    assert [path.name for path in find_files([str(folder / "_SUCCESS")])] == ["_SUCCESS"]
    with pytest.raises(LogError, match="no file with content"):
        find_files([str(folder / "_*")])


@pytest.mark.parametrize(
    ("text", "quoted", "device"),
    [
        ('click\tdevice\n0\t"start\n1\tb\n0\tb\n1\t"start\n', False, '"start'),
        ('click\tdevice\n0\t5" tv\n1\tb\n0\tb\n1\t5" tv\n', False, '5" tv'),
        ('click\tdevice\n0\t"a\tb"\n1\tb\n0\tb\n1\t"a\tb"\n', True, "a\tb"),
        ('click\tdevice\n0\t"a\nb"\n1\tb\n0\tb\n1\t"a\nb"\n', True, "a\nb"),
        ('click\tdevice\n0\t"a ""b"""\n1\tb\n0\tb\n1\t"a ""b"""\n', True, 'a "b"'),
    ],
)
def test_double_quotes_enclose_values_or_are_part_of_them(tmp_path: Path, text: str, quoted: bool, device: str) -> None:
    (tmp_path / "log.tsv").write_text(text, encoding="utf-8")
    encoded = encode(tmp_path / "log.tsv")
    assert encoded.inferred.schema.log.quoted is quoted
    assert sorted(encoded.tokens["device"]) == sorted(["b", device])


@pytest.mark.parametrize("labels", [("-1", "1"), ("-1", "+1"), ("False", "True"), ("FALSE", "true"), ("0.0", "1.0")])
def test_labels_in_other_spellings_are_labels(
    log: pl.DataFrame, expected: Encoded, tmp_path: Path, labels: tuple[str, str]
) -> None:
    spelt = flat(log).with_columns(pl.Series("click", [labels[click] for click in log["click"]]))
    spelt.write_csv(tmp_path / "log.csv")
    np.testing.assert_array_equal(encode(tmp_path / "log.csv").labels, expected.labels)


def test_a_json_line_may_lack_what_others_have(log: pl.DataFrame, expected: Encoded, tmp_path: Path) -> None:
    rows = log.to_dicts()
    for part, first in (("a", 0), ("b", 200)):
        lines = [
            json.dumps({k: v for k, v in row.items() if v is not None and (part == "a" or k != "other")})
            for row in rows[first : first + 200]
        ]
        (tmp_path / f"{part}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    np.testing.assert_array_equal(encode(tmp_path / "*.jsonl").ids, expected.ids)


def test_columns_that_cannot_be_fields_are_left_out_with_the_reason(log: pl.DataFrame, tmp_path: Path) -> None:
    odd = log.with_columns(
        pl.Series("struct", [{"a": 1, "b": 2}] * log.height), pl.lit(None).alias("nothing"), pl.Series('a "name"', ["x", "y"] * 200),
        pl.Series("structs", [[{"a": 1}]] * log.height), pl.Series("lasts", [timedelta(seconds=i % 9) for i in range(log.height)]),
    )  # fmt: skip
    odd.write_parquet(tmp_path / "log.parquet")
    inferred = encode(tmp_path / "log.parquet").inferred
    assert {"struct", "structs", "nothing", 'a "name"'}.isdisjoint(field.name for field in inferred.schema.fields)
    assert all(inferred.reasons[name].startswith("left out") for name in ("struct", "structs", "nothing", 'a "name"'))


def test_a_log_without_a_header_says_so(tmp_path: Path) -> None:
    (tmp_path / "log.tsv").write_text("0\t1\t\t68fd\n1\t1\t5\t0b1\n", encoding="utf-8")
    with pytest.raises(LogError, match="no header line"):
        encode(tmp_path / "log.tsv", "0")


def test_libffm_names_the_command_that_converts_it(tmp_path: Path) -> None:
    (tmp_path / "log.ffm").write_text("1 0:1028:1 1:50000:1\n0 0:1030:1 1:50018:0.5\n", encoding="utf-8")
    with pytest.raises(LogError, match="convert"):
        encode(tmp_path / "log.ffm")
