import hypothesis.strategies as st
import torch
from hypothesis import given

from models.training.unique_rows import UniqueRows

IDS = st.lists(st.integers(0, 30), min_size=1, max_size=60)


@given(IDS, IDS)
def test_it_is_torchs_unique_whatever_was_asked_before(first: list[int], second: list[int]) -> None:
    unique = UniqueRows(31)
    for ids in (torch.tensor(first).int(), torch.tensor(second).int()):
        found = unique.find(ids)
        expected = torch.unique(ids, return_inverse=True, return_counts=True)
        assert [x.tolist() for x in (found.rows, found.index, found.repeats)] == [x.tolist() for x in expected]
