import numpy as np
import pytest

from models.features.field_encoder import Column
from models.features.packed_rows import PackedRows
from models.network.calibration import sigmoid
from models.training import interactions
from models.training.interactions import interacting_fields

N, SIZE = 20_000, 30


def make_rows(seed: int, *, crossed: bool) -> tuple[PackedRows, np.ndarray]:
    """Return impressions of four fields and a bag; labels depend on how the first two tokens meet, or on nothing."""
    rng = np.random.default_rng(seed)
    columns = [rng.integers(0, SIZE, N) + f * SIZE for f in range(4)]
    lengths = rng.integers(1, 4, N)
    bags = Column(rng.integers(0, SIZE, int(lengths.sum())) + 4 * SIZE, lengths, "sqrtn")
    effects = rng.normal(size=(SIZE, SIZE)) * (0.7 if crossed else 0.0)
    labels = (rng.random(N) < sigmoid(effects[columns[0], columns[1] - SIZE])).astype(np.float32)
    return PackedRows.of([*map(Column, columns), bags]), labels


@pytest.mark.parametrize("cells", [1 << 18, 512])
def test_fields_that_only_say_something_together_are_found_and_no_others(
    monkeypatch: pytest.MonkeyPatch, cells: int
) -> None:
    monkeypatch.setattr(interactions, "MAX_CELLS", cells)  # pairs are hashed
    starts = np.arange(5) * SIZE
    rows, labels = make_rows(0, crossed=True)
    assert interacting_fields(rows, labels, np.zeros(N), starts, 0).tolist() == [True, True, False, False, False]


def test_independent_clicks_show_no_interactions() -> None:
    starts = np.arange(5) * SIZE
    found = [
        interacting_fields(*make_rows(seed, crossed=False), np.zeros(N), starts, seed).any() for seed in range(1, 11)
    ]
    assert sum(found) <= 1


def test_a_log_of_one_field_has_no_pairs() -> None:
    rows = PackedRows.of([Column(np.zeros(5, np.int64))])
    assert interacting_fields(rows, np.zeros(5), np.zeros(5), np.zeros(1, np.int64), 0).tolist() == [False]
