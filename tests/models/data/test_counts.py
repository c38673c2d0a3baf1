"""Logs whose rows count impressions and clicks, as that of KDD Cup 2012."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from models.data.impressions import read_frame
from models.data.schema_inference import infer_schema
from models.errors import LogError
from models.schema.feature_schema import FeatureSchema

SCHEMA = FeatureSchema.model_validate(
    {"label": "click", "impressions": "impression", "field": [{"name": "ad", "kind": "categorical"}]}
)


def write(path: Path, clicks: list[int], shown: list[int]) -> list[str]:
    ads = [f"a{i % 5}" for i in range(len(clicks))]
    pl.DataFrame({"click": clicks, "impression": shown, "ad": ads}).write_csv(path / "log.csv")
    return [str(path / "log.csv")]


def test_a_row_is_as_many_impressions_as_it_counts(tmp_path: Path) -> None:
    frame = read_frame(write(tmp_path, [0, 2, 1, 0], [1, 3, 1, 0]), SCHEMA)
    rows = [(0, "a0"), (1, "a1"), (1, "a1"), (0, "a1"), (1, "a2")]
    assert frame.select("click", "ad").rows() == rows


@pytest.mark.parametrize(
    ("clicks", "message"), [([4], "at most as many clicks as column 'impression' says"), ([-1], "whole number from 0")]
)
def test_counts_that_cannot_be_are_refused(tmp_path: Path, clicks: list[int], message: str) -> None:
    with pytest.raises(LogError, match=message):
        read_frame(write(tmp_path, clicks, [3]), SCHEMA)


def test_inference_finds_the_counts(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shown = rng.integers(1, 9, 500)
    found = infer_schema(write(tmp_path, rng.binomial(shown, 0.3).tolist(), shown.tolist()), "click")
    assert found.schema.impressions == "impression"
    assert [field.name for field in found.schema.fields] == ["ad"]
