import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from models.training.optimizers import RULES, DenseOptimizer, DenseRule, DistinctRows, RowOptimizer

ORACLES = {
    "sgd": lambda p, lr: torch.optim.SGD(p, lr=lr),
    "adagrad": lambda p, lr: torch.optim.Adagrad(p, lr=lr, eps=1e-8),
    "adam": lambda p, lr: torch.optim.Adam(p, lr=lr, eps=1e-8),
}


@pytest.mark.parametrize("name", ["sgd", "adagrad", "adam"])
def test_dense_updates_equal_torchs_own(name: DenseRule) -> None:
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.arange(6.0).view(2, 3)) for _ in range(2))
    mine, oracle = DenseOptimizer(RULES[name], [ours]), ORACLES[name]([theirs], 0.1)
    for step in range(1, 8):
        ours.grad = torch.randn(2, 3)
        theirs.grad = ours.grad.clone()
        mine.step(step, 0.1)
        oracle.step()
    torch.testing.assert_close(ours.data, theirs.data)


@pytest.mark.parametrize("name", ["sgd", "adagrad"])
def test_row_updates_equal_dense_ones_with_zero_gradients_elsewhere(name: DenseRule) -> None:
    torch.manual_seed(0)
    table = torch.randn(10, 3)
    whole = torch.nn.Parameter(table.clone())
    rows, dense = RowOptimizer(RULES[name], table), DenseOptimizer(RULES[name], [whole])
    for step in range(1, 8):
        touched, gradient = torch.randperm(10)[:4], torch.randn(4, 3)
        rows.step(touched, gradient, step, 0.1)
        whole.grad = torch.zeros(10, 3).index_copy_(0, touched, gradient)
        dense.step(step, 0.1)
    torch.testing.assert_close(table, whole.data)


def test_adam_rows_equal_torchs_sparse_adam() -> None:
    torch.manual_seed(0)
    table = torch.randn(10, 3)
    theirs = torch.nn.Parameter(table.clone())
    mine, oracle = RowOptimizer(RULES["adam"], table), torch.optim.SparseAdam([theirs], lr=0.1, eps=1e-8)
    for step in range(1, 8):
        touched, gradient = torch.randperm(10)[:4].sort().values, torch.randn(4, 3)
        mine.step(touched, gradient, step, 0.1)
        theirs.grad = torch.sparse_coo_tensor(touched[None], gradient, (10, 3), check_invariants=True)
        oracle.step()
    torch.testing.assert_close(table, theirs.data)


def test_a_step_from_a_prior_adds_its_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.training.optimizers.adagrad", None)
    torch.manual_seed(0)
    decay, precision, touched, gradient = torch.rand(9), torch.rand(3), torch.tensor([7, 2]), torch.randn(2, 3)
    for rule in RULES.values():
        table = torch.randn(9, 3)
        mine, other = RowOptimizer(rule, table.clone()), RowOptimizer(rule, table.clone())
        mine.step_decayed(touched, table[touched], gradient.clone(), decay, precision, 1, 0.1)
        other.step(touched, gradient + table[touched] * decay[touched, None] * precision, 1, 0.1)
        torch.testing.assert_close(mine.table, other.table)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.lists(st.integers(0, 30), min_size=1, max_size=60))
def test_distinct_rows_are_each_named_once_and_give_back_the_ids(first: list[int], second: list[int]) -> None:
    distinct = DistinctRows(31)
    for ids in (first, second):
        touched, index = distinct.find(torch.tensor(ids))
        assert sorted(touched.tolist()) == sorted(set(ids))
        assert touched[index].tolist() == ids


def test_rowwise_adagrad_is_adagrad_on_the_mean_square_of_each_part() -> None:
    torch.manual_seed(0)
    table = torch.randn(6, 4)
    oracle, sums = table.double().clone(), torch.zeros(6, 2, dtype=torch.double)
    rows = RowOptimizer(RULES["rowwise_adagrad"], table)
    for step in range(1, 6):
        touched, gradient = torch.randperm(6)[:3], torch.randn(3, 4)
        rows.step(touched, gradient, step, 0.1)
        for row, g in zip(touched.tolist(), gradient.double(), strict=True):
            sums[row, 0] += (g[0] ** 2 + g[1] ** 2 + g[2] ** 2) / 3
            sums[row, 1] += g[3] ** 2
            for j in range(4):
                oracle[row, j] -= 0.1 * g[j] / (sums[row, int(j == 3)].sqrt() + 1e-8)
    torch.testing.assert_close(table.double(), oracle, atol=1e-6, rtol=1e-5)
