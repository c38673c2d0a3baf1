import numpy as np
import pytest
import torch

from models.data.warm_start import Inheritance
from models.training.prior import GaussianPrior
from models.training.unique_rows import Unique, UniqueRows


def test_the_batches_of_an_epoch_pay_the_penalty_of_the_whole_log() -> None:
    torch.manual_seed(0)
    n, b, R = 600, 50, 40
    ids = torch.randint(0, R, (n, 3))
    table, precision = torch.randn(R, 4), torch.rand(R, 2)
    counts = np.bincount(ids.flatten(), minlength=R).astype(float)
    prior = GaussianPrior(precision, np.stack((counts, counts), axis=1))
    paid = 0.0
    for part in ids.split(b):
        unique = UniqueRows(R).find(part.flatten().int())
        paid += b * prior.penalty(table[unique.rows], unique, b).item()
    held = ids.unique()
    by_coordinate = precision[held][:, [0, 0, 0, 1]]
    assert paid == pytest.approx(0.5 * (table[held].square() * by_coordinate).sum().item(), rel=1e-5)


def test_known_rows_are_drawn_to_what_they_were_the_more_the_more_they_were_seen() -> None:
    table = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    inheritance = Inheritance(np.array([2, 0]), table, np.array([8, 100]), {}, 108, "before")
    precision, counts = torch.tensor([10.0, 1.0]).repeat(4, 1), np.array([4.0, 2.0, 1.0, 1.0])
    prior = GaussianPrior(precision, np.stack((counts, counts), axis=1), inheritance, 0.25)
    means, certainty = prior.inherited(torch.tensor([0, 1, 2]), 2)
    assert means.tolist() == [[3.0, 4.0], [0.0, 0.0], [1.0, 2.0]]
    assert certainty.tolist() == [25.0, 0.0, 2.0]
    values = torch.tensor([[3.5, 3.0], [0.5, 1.0], [2.0, 2.0]]).requires_grad_()
    unique = Unique(torch.tensor([0, 1, 2]), torch.tensor([0, 1, 2, 2]), torch.tensor([1, 1, 2]))
    prior.penalty(values, unique, 5).backward()
    expected = [[0.5 * 35 / 4 / 5, -26 / 4 / 5], [0.5 * 10 / 2 / 5, 1 / 2 / 5], [12 * 2 / 5, 0.0]]
    torch.testing.assert_close(values.grad, torch.tensor(expected))
