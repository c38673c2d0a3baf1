"""Training that begins with what the log says: at the first order, with tied rows."""

import numpy as np
import pytest
import torch

from models.data.shards import Part
from models.evaluation.metrics import log_loss
from models.features.packed_rows import PackedRows
from models.network.calibration import sigmoid
from models.training.evidence import INTERACTING, OTHER, Evidence
from models.training.first_order import fit_first_order
from models.training.ties import Ties
from models.training.train_config import TrainConfig
from models.training.train_step import TrainStep
from models.training.trainer import Trainer
from models.training.unique_rows import UniqueRows
from tests.models.training.making import CONFIG, OOV_ROWS, R, make_examples

STARTS = np.array([0, 20, 40])
BLOCK_OF = np.repeat(np.arange(3), 20)
TRAIN, HELD_OUT = make_examples(3_000, 1), make_examples(800, 2)
CERTAIN = CONFIG.model_copy(update={"id_dropout": 0.0})


def evidence_of(rows: PackedRows, labels: np.ndarray) -> Evidence:
    first_order = fit_first_order(rows, labels, STARTS, R, 0.1, 0)
    return Evidence(first_order, BLOCK_OF, np.array([True, False, False]))


def make_step(evidence: Evidence, embedding_rows: np.ndarray | None = None, config: TrainConfig = CERTAIN) -> TrainStep:
    counts = np.bincount(TRAIN.rows.ids, minlength=R)
    return TrainStep(config, counts, OOV_ROWS, TRAIN.labels, None, evidence, embedding_rows)


def test_the_first_order_alone_is_kept_where_no_epoch_is_better() -> None:
    evidence = evidence_of(TRAIN.rows, TRAIN.labels)
    config = CERTAIN.model_copy(update={"embedding_variance": 1.0, "init_std": 1.0})

    def make_trainer() -> Trainer:
        step = make_step(evidence, config=config)
        step.rates[:] = 0.0  # large random embeddings stay as they are
        return Trainer(step, [Part.of(TRAIN)], lambda *_: None)

    trained = make_trainer().fit(Part.of(HELD_OUT))
    assert trained.best_epoch == 0
    assert trained.first_order_log_loss is not None
    expected = log_loss(HELD_OUT.labels, sigmoid(evidence.first_order.logits(HELD_OUT.rows)))
    assert trained.first_order_log_loss == pytest.approx(expected, rel=1e-5)
    assert all(epoch.validation_log_loss > expected for epoch in trained.history)
    assert not trained.table[:, :-1].any()
    np.testing.assert_array_equal(trained.table[:, -1], evidence.first_order.weights)
    np.testing.assert_array_equal(make_trainer().fit_again(0).table, trained.table)


def test_embeddings_of_fields_that_interact_have_a_wider_prior() -> None:
    evidence = evidence_of(TRAIN.rows, TRAIN.labels)
    variances = evidence.variances(CONFIG)[:, 0] / CONFIG.embedding_variance
    assert variances.tolist() == [INTERACTING, OTHER, OTHER]
    deviations = make_step(evidence).table[:, :-1].std(dim=1)
    assert deviations[:20].mean() > 1.5 * deviations[20:].mean()


def test_tied_rows_have_one_embedding_and_weights_of_their_own() -> None:
    owners = np.arange(R)
    owners[40:] = np.arange(20, 40)
    step = make_step(evidence_of(TRAIN.rows, TRAIN.labels), owners)
    for at in range(0, 512, 128):
        step(TRAIN.rows.select(np.arange(at, at + 128), TRAIN.rows.row_starts()), TRAIN.labels[at : at + 128])
    step.logits(HELD_OUT.rows)
    assert torch.equal(step.table[40:, :-1], step.table[20:40, :-1])
    assert not torch.equal(step.table[42:, -1], step.table[22:40, -1])


def test_a_step_of_tied_rows_follows_the_gradient() -> None:
    owners = np.arange(R)
    owners[40:] = np.arange(20, 40)
    ties, table = Ties(owners, torch.device("cpu")), torch.randn(R, 3)
    unique, places = ties.close(UniqueRows(R).find(torch.tensor([45, 3, 45, 25])))
    assert unique.rows.tolist() == [3, 25, 45]
    assert unique.repeats.tolist() == [1, 1, 2]
    assert unique.rows[unique.index].tolist() == [45, 3, 45, 25]
    values = table[unique.rows].requires_grad_()
    tied = torch.cat((values[places, :-1], values[:, -1:]), dim=1)
    torch.testing.assert_close(tied[2, :-1], table[25, :-1])
    tied[unique.index].sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [[1, 1, 1], [3, 3, 1], [0, 0, 2]]
    only_child, _ = ties.close(UniqueRows(R).find(torch.tensor([50])))
    assert only_child.rows.tolist() == [30, 50]
    assert only_child.repeats.tolist() == [0, 1]
