"""Training's reader gets the same treatment as the service: a log, or an error that names the file; nothing else."""

import os
import resource
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import polars as pl
import pytest
from hypothesis import given, settings

from models.data.impressions import read_frame
from models.data.schema_inference import infer_schema
from models.errors import LogError, SchemaError
from models.schema.feature_schema import FeatureSchema

FIELDS = [
    {"name": "user", "kind": "categorical"},
    {"name": "price", "kind": "numeric"},
    {"name": "seen", "kind": "sequence"},
]
HEAD = b"click,user,price,seen\n"
ROWS = b"0,7,1.5,a|b\n1,8,2.5,c\n"
MAX_GROWTH_MIB = 400


def make_schema() -> FeatureSchema:
    return FeatureSchema.model_validate({"label": "click", "field": FIELDS})


def read(path: Path) -> pl.DataFrame | str:
    """Return the log, or the message of the error that refuses it; a schema can be inferred, or is refused as well."""
    with suppress(LogError):
        infer_schema([str(path)], "click")
    try:
        return read_frame([str(path)], make_schema())
    except (LogError, SchemaError) as error:
        message = str(error)
        assert len(message) < 4_500
        assert "\n" not in message
        return message


TEXTS: dict[str, tuple[bytes, str | None]] = {
    "good": (HEAD + ROWS, None),
    "empty": (b"", "log.csv"),
    "one line feed": (b"\n", "log.csv"),
    "header alone": (HEAD, "no rows"),
    "header without line feed": (HEAD[:-1], "no rows"),
    "NUL in a token": (HEAD + ROWS + b"0,a\x00b,1,a\n", None),
    "NULs alone": (b"\x00" * 10_000, "log.csv"),
    "NUL in a number": (HEAD + ROWS + b"0,7,1\x00,a\n", "row 3, column 'price'"),
    "bad UTF-8 in a token": (HEAD + ROWS + b"0,\xff\xfe,1,a\n", "log.csv"),
    "bad UTF-8 in a sequence": (HEAD + ROWS + b"0,7,1,\xc3|a\n", "log.csv"),
    "bad UTF-8 in the header": (b"click,user,price,se\xffen\n" + ROWS, "log.csv"),
    "surrogate in UTF-8": (HEAD + ROWS + b"0,\xed\xa0\x80,1,a\n", "log.csv"),
    "byte order mark": (b"\xef\xbb\xbf" + HEAD + ROWS, None),
    "UTF-16": ((HEAD + ROWS).decode().encode("utf-16"), "log.csv"),
    "UTF-16 without mark": ((HEAD + ROWS).decode().encode("utf-16-be"), "log.csv"),
    "latin1": ("click,user,price,seen\n0,caf\u00e9,1,a\n1,b,1,a\n".encode("latin1"), "log.csv"),
    "row too short": (HEAD + ROWS + b"0,7\n", ""),
    "row too long": (HEAD + ROWS + b"0,7,1.5,a,b,c,d\n", ""),
    "row far too long": (HEAD + ROWS + b"0,7,1.5,a" + b",b" * 100_000 + b"\n", ""),
    "2,000 columns": (b"click,user,price,seen" + b"".join(b",c%d" % i for i in range(2_000)) + b"\n" + ROWS, ""),
    "10 MB cell": (HEAD + ROWS + b"0," + b"a" * 10_000_000 + b",1,a\n", None),
    "10 MB number": (HEAD + ROWS + b"0,7," + b"1" * 10_000_000 + b",a\n", None),
    "10 MB of separators": (HEAD + ROWS + b"0,7,1," + b"|" * 10_000_000 + b"\n", None),
    "10 MB column name": (HEAD[:-1] + b"," + b"n" * 10_000_000 + b"\n" + ROWS, ""),
    "quote never closed": (HEAD + ROWS + b'0,"7,1.5,a\n' + ROWS * 100, ""),
    "quotes everywhere": (HEAD + ROWS + b'""""""",""",\n', ""),
    "carriage returns alone": ((HEAD + ROWS).replace(b"\n", b"\r"), ""),
    "carriage returns too": ((HEAD + ROWS).replace(b"\n", b"\r\n"), None),
    "NaN": (HEAD + ROWS + b"0,7,NaN,a\n", None),
    "infinity": (HEAD + ROWS + b"0,7,inf,a\n1,7,-Infinity,a\n", None),
    "1e999": (HEAD + ROWS + b"0,7,1e999,a\n", None),
    "5,000 digits": (HEAD + ROWS + b"0,7," + b"9" * 5_000 + b",a\n", None),
    "number in words": (HEAD + ROWS + b"0,7,cheap,a\n", "row 3, column 'price'"),
    "hexadecimal": (HEAD + ROWS + b"0,7,0x10,a\n", "row 3, column 'price'"),
    "NaN as label": (HEAD + ROWS + b"NaN,7,1,a\n", "row 3, column 'click'"),
    "1e999 as label": (HEAD + ROWS + b"1e999,7,1,a\n", "row 3, column 'click'"),
    "label 0.5": (HEAD + ROWS + b"0.5,7,1,a\n", "row 3, column 'click'"),
    "no label": (HEAD + ROWS + b",7,1,a\n", "row 3, column 'click'"),
    "column given twice": (
        b"click,user,price,seen,user\n0,7,1.5,a|b,9\n1,8,2.5,c,9\n",
        "column 'user': is named twice",
    ),
    "label given twice": (
        b"click,user,price,seen,click\n0,7,1.5,a|b,1\n1,8,2.5,c,0\n",
        "column 'click': is named twice",
    ),
    "first column given twice after a byte order mark": (
        b"\xef\xbb\xbfclick,user,price,seen,click\n0,7,1.5,a|b,1\n1,8,2.5,c,0\n",
        "column 'click': is named twice",
    ),
    "column given twice, once in quotes": (
        b'click,user,"price",seen,price\n0,7,1,a,1\n1,8,2,c,0\n',
        "column 'price': is named",
    ),
    "columns without names": (b"click,user,price,seen,,\n0,7,1.5,a|b,9,9\n1,8,2.5,c,9,9\n", None),
    "column without name": (b"click,user,price,seen,\n0,7,1.5,a|b,9\n1,8,2.5,c,9\n", None),
    "formula": (HEAD + ROWS + b"0,=cmd|' /C calc'!A0,1,a\n", None),
    "a pickle": (
        b"\x80\x04\x95\x1e\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
        "log.csv",
    ),
    "gzip": (b"\x1f\x8b\x08\x00" + bytes(1_000), "log.csv"),
    "zstandard": (b"\x28\xb5\x2f\xfd" + bytes(1_000), "log.csv"),
    "Parquet named csv": (b"PAR1" + bytes(range(256)) + b"PAR1", "log.csv"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_hostile_text_is_read_or_refused_with_the_file(tmp_path: Path, name: str) -> None:
    content, expected = TEXTS[name]
    path = tmp_path / "log.csv"
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = read(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MAX_GROWTH_MIB * 1024
    if expected is None:
        assert isinstance(result, pl.DataFrame), result
    elif expected:
        assert isinstance(result, str), result
        assert expected in result
    if isinstance(result, str):
        assert "log.csv" in result or "every label" in result, result


def frame(**overrides: Any) -> pl.DataFrame:
    columns = {"click": [0, 1], "user": [7, None], "price": [1.5, None], "seen": [[1, 2], []], **overrides}
    return pl.DataFrame(columns, strict=False)


TABLES: dict[str, tuple[pl.DataFrame, str | None]] = {
    "good": (frame(), None),
    "no rows": (frame().clear(), "no rows"),
    "no columns": (pl.DataFrame(), "log.parquet"),
    "infinities and NaN": (frame(price=[float("inf"), float("nan")]), None),
    "NaN as label": (frame(click=[0.0, float("nan")]), "row 2, column 'click'"),
    "infinity as label": (frame(click=[0.0, float("inf")]), "row 2, column 'click'"),
    "NaN as token": (frame(user=[1.0, float("nan")]), None),
    "infinity as token": (frame(user=[1.0, float("inf")]), "row 2, column 'user'"),
    "infinity in a sequence": (frame(seen=[[1.0], [float("inf")]]), "row 2, column 'seen'"),
    "NaN in a sequence": (frame(seen=[[1.0], [float("nan")]]), ""),
    "lists as labels": (frame(click=[[0], [1]]), "column 'click'"),
    "structs as labels": (frame(click=[{"a": 0}, {"a": 1}]), "column 'click'"),
    "times as labels": (frame(click=pl.Series([0, 1]).cast(pl.Datetime)), "column 'click'"),
    "bytes as labels": (frame(click=[b"0", b"1"]), None),
    "structs as numbers": (frame(price=[{"a": 1}, {"a": 2}]), "column 'price'"),
    "lists as numbers": (frame(price=[[1.5], [2.5]]), "column 'price'"),
    "bytes as numbers": (frame(price=[b"1.5", b"\xff"]), "column 'price'"),
    "times as numbers": (frame(price=pl.Series([0, 1]).cast(pl.Datetime)), "column 'price'"),
    "decimals as numbers": (frame(price=pl.Series(["1.5", "2.5"]).cast(pl.Decimal(38, 10))), ""),
    "bytes as tokens": (frame(user=[b"a", b"\xff"]), "column 'user'"),
    "structs as tokens": (frame(user=[{"a": 1}, {"a": 2}]), "column 'user'"),
    "times as tokens": (frame(user=pl.Series([0, 1]).cast(pl.Time)), ""),
    "nested lists": (frame(seen=[[[1]], [[2]]]), "column 'seen'"),
    "structs in a sequence": (frame(seen=[[{"a": 1}], [{"a": 2}]]), "column 'seen'"),
    "bytes in a sequence": (frame(seen=[[b"a"], [b"\xff"]]), "column 'seen'"),
    "array for a sequence": (frame(seen=pl.Series([[1, 2], [3, 4]], dtype=pl.Array(pl.Int64, 2))), ""),
    "nulls everywhere": (frame(user=[None, None], price=[None, None], seen=[None, None]), None),
    "null labels": (frame(click=pl.Series([None, None], dtype=pl.Null)), "row 1, column 'click'"),
    "10 MB cell": (frame(user=["a" * 10_000_000, "b"]), None),
    "10 MB list": (frame(seen=[list(range(1_000_000)), []]), None),
    "128-bit integers": (frame(user=pl.Series([2**100, 1], dtype=pl.Int128)), ""),
    "NUL in a token": (frame(user=["a\x00", "b"]), None),
    "1,000 columns": (frame(**{f"c{i}": [0, 1] for i in range(1_000)}), None),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_hostile_table_is_read_or_refused_with_file_and_column(tmp_path: Path, name: str) -> None:
    table, expected = TABLES[name]
    path = tmp_path / "log.parquet"
    table.write_parquet(path)
    result = read(path)
    if expected is None:
        assert isinstance(result, pl.DataFrame), result
    elif expected:
        assert isinstance(result, str), result
        assert expected in result
    if isinstance(result, str):
        assert "log.parquet" in result or result.startswith("column "), result


def parquet_bytes(tmp_path: Path) -> bytes:
    rows = pl.DataFrame({"click": [0, 1] * 50, "user": range(100), "price": [0.5] * 100, "seen": [["a", "b"]] * 100})
    rows.write_parquet(tmp_path / "good.parquet")
    return (tmp_path / "good.parquet").read_bytes()


def test_a_parquet_file_that_ends_anywhere_is_refused(tmp_path: Path) -> None:
    good, path = parquet_bytes(tmp_path), tmp_path / "log.parquet"
    for length in range(0, len(good), len(good) // 100):
        path.write_bytes(good[:length])
        result = read(path)
        assert isinstance(result, str)
        assert "log.parquet" in result


@settings(max_examples=100)
@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=4))
def test_a_parquet_file_with_changed_bytes_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[float, int]]
) -> None:
    tmp_path = tmp_path_factory.getbasetemp()
    changed = bytearray(parquet_bytes(tmp_path))
    for place, difference in flips:
        changed[int(place * len(changed))] ^= difference
    (tmp_path / "changed.parquet").write_bytes(changed)
    read(tmp_path / "changed.parquet")


@settings(max_examples=150)
@given(
    tail=st.binary(max_size=200) | st.text(alphabet='0123456789.,|"\n\r\t\x00eEnN\u00e9', max_size=200).map(str.encode)
)
def test_any_bytes_after_a_header_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, tail: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(HEAD + ROWS + tail)
    read(path)


def make_directory(path: Path) -> None:
    path.mkdir()


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_dangling_link(path: Path) -> None:
    path.symlink_to(path.with_name("nothing"))


def make_loop(path: Path) -> None:
    path.symlink_to(path)


def make_link_to_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [make_directory, make_pipe, make_dangling_link, make_loop, make_link_to_device])
@pytest.mark.parametrize("name", ["log.csv", "log.parquet"])
def test_what_is_no_regular_file_is_refused_and_never_waited_for(
    tmp_path: Path, name: str, make: Callable[[Path], None]
) -> None:
    make(tmp_path / name)
    for path in (tmp_path / name, tmp_path / "log*", tmp_path):
        result = read(path)
        assert isinstance(result, str)
        assert "file" in result


@pytest.mark.parametrize(
    "pattern", ["", "[", "**", "a\x00b", "~", "/dev/stdin", "https://other.example/log.csv", "s3://b/log"]
)
def test_a_hostile_pattern_is_refused(pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LogError, match="file"):
        read_frame([pattern], make_schema())
