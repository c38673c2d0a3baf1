from pathlib import Path

import polars as pl
import pytest

from models.data.libffm import convert
from models.errors import LogError


def converted(tmp_path: Path, text: str) -> pl.DataFrame:
    (tmp_path / "log.ffm").write_text(text, encoding="utf-8")
    assert convert(tmp_path / "log.ffm", tmp_path / "log.parquet") == len(text.splitlines())
    return pl.read_parquet(tmp_path / "log.parquet")


def test_fields_of_libffm_are_tokens_lists_and_numbers(tmp_path: Path) -> None:
    found = converted(tmp_path, "1 0:7:1 1:5:1 1:6:1 2:9:0.5\n-1 0:8:1 2:9:1.5\n0 0:7:1 1:5:1\n")
    assert found.to_dict(as_series=False) == {
        "label": [1, -1, 0],
        "field_0": ["7", "8", "7"],
        "field_1": [["5", "6"], None, ["5"]],
        "field_2": [0.5, 1.5, None],
    }


def test_features_of_libsvm_are_a_list_and_numbers(tmp_path: Path) -> None:
    found = converted(tmp_path, "+1 3:1 7:1 9:0.25\n0 3:1\n")
    assert found.to_dict(as_series=False) == {
        "label": [1, 0],
        "feature_9": [0.25, None],
        "features": [["3", "7"], ["3"]],
    }


@pytest.mark.parametrize("text", ["2 0:1:1\n", "1 0:1:x\n", "1 0:1:1:1\n", "1 word\n", "\n"])
def test_other_lines_are_refused_by_number(tmp_path: Path, text: str) -> None:
    with pytest.raises(LogError, match=r"line 1|no rows"):
        converted(tmp_path, text)
