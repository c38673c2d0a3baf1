from itertools import pairwise

import numpy as np
import pytest
import torch

from models.features.encoder import EncodedBatch
from models.network.deepfm import DeepFMHead
from models.network.distinct_step import differentiate_rows
from models.network.head import DeepFMConfig
from models.training.train_step import Learner, LearnerConfig

STARTS = np.array([0, 20, 23, 60])
"""Of three fields' blocks, and the end of the last."""


def make_ids(b: int) -> np.ndarray:
    rng = np.random.default_rng(7)
    return np.stack([rng.integers(a + 1, z, b) for a, z in pairwise(STARTS.tolist())], axis=1)


@pytest.mark.parametrize("hidden", [(), (8,), (8, 4)])
def test_gradients_by_distinct_rows_equal_autograds_through_the_head(hidden: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    head, ids, labels = (
        DeepFMHead(DeepFMConfig(embedding_dim=4, hidden=hidden), 3),
        make_ids(40),
        torch.arange(40) % 2.0,
    )
    touched, index = np.unique(ids.reshape(-1), return_inverse=True)
    values, kept = torch.randn(len(touched), 5), (torch.rand(40, 3) > 0.3) / 0.7
    bounds = np.searchsorted(touched, STARTS)
    loss, gradient = differentiate_rows(head, values, bounds, torch.from_numpy(index), kept, labels)
    own = [p.grad.clone() for p in head.parameters() if p.grad is not None]
    head.zero_grad()
    values.requires_grad_()
    fields = values[torch.from_numpy(index)].view(40, 3, 5)
    scale = torch.cat((kept.unsqueeze(2).expand(-1, -1, 4), torch.ones(40, 3, 1)), dim=2)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(head(fields * scale), labels)
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-6)
    assert values.grad is not None
    torch.testing.assert_close(gradient, values.grad)
    for mine, parameter in zip(own, head.parameters(), strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(mine, parameter.grad)


def learn(monkeypatch: pytest.MonkeyPatch, few_rows: float) -> tuple[list[float], torch.Tensor]:
    monkeypatch.setattr("models.training.train_step.FEW_ROWS", few_rows)
    ids, labels = make_ids(200), (np.arange(200) % 3 == 0).astype(np.float32)
    config = LearnerConfig(model=DeepFMConfig(embedding_dim=4, hidden=(8,)), batch_size=50, epochs=2)
    learner = Learner(config, np.bincount(ids.reshape(-1), minlength=60), STARTS[:-1] + 1, labels)
    losses = []
    for at in [0, 50, 100, 150] * 2:
        batch = EncodedBatch.single(ids[at : at + 50].reshape(-1), 3)
        losses.append(learner.learn(batch, torch.from_numpy(labels[at : at + 50])))
    return losses, learner.table


def test_steps_by_distinct_rows_learn_what_steps_by_values_do(monkeypatch: pytest.MonkeyPatch) -> None:
    by_rows, table = learn(monkeypatch, 0)
    by_values, expected = learn(monkeypatch, float("inf"))
    assert by_rows == pytest.approx(by_values, rel=1e-5)
    torch.testing.assert_close(table, expected, rtol=1e-3, atol=1e-5)
    again, same = learn(monkeypatch, 0)
    assert again == by_rows
    assert torch.equal(same, table)
