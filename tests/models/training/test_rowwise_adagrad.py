import pytest
import torch

from models.training.rowwise_adagrad import RowwiseAdagrad


@pytest.mark.parametrize("longest", [16, 8, 4, 0])
@pytest.mark.parametrize("width", [2, 5, 17, 36])
def test_it_is_adagrad_on_the_mean_square_of_each_part(
    width: int, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not longest:
        monkeypatch.setattr("models.network.operators.native", None)
    torch.manual_seed(0)
    table, E = torch.randn(30, width), width - 1
    oracle, sums = table.double().clone(), torch.zeros(30, 2, dtype=torch.double)
    rule = RowwiseAdagrad(table, longest)
    for _ in range(5):
        rows, gradient = torch.randperm(30)[:13], torch.randn(13, width)
        rule.step(rows, gradient, 0.1)
        for row, g in zip(rows.tolist(), gradient.double(), strict=True):
            sums[row, 0] += g[:E].square().sum() / E
            sums[row, 1] += g[E] ** 2
            oracle[row, :E] -= 0.1 * g[:E] / (sums[row, 0].sqrt() + 1e-8)
            oracle[row, E] -= 0.1 * g[E] / (sums[row, 1].sqrt() + 1e-8)
    torch.testing.assert_close(table.double(), oracle, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(rule.squares.double(), sums, atol=1e-6, rtol=1e-5)


def test_rows_outside_the_table_are_refused() -> None:
    for row in (-1, 5):
        with pytest.raises((ValueError, IndexError)):
            RowwiseAdagrad(torch.zeros(5, 4)).step(torch.tensor([0, row]), torch.ones(2, 4), 0.1)


def test_it_runs_on_other_devices() -> None:
    table = torch.zeros(5, 4, device="meta")
    RowwiseAdagrad(table).step(torch.zeros(2, dtype=torch.int64, device="meta"), torch.ones(2, 4, device="meta"), 0.1)
