"""The compiled head is the head in numpy, and gives a row the same bits whatever it is scored with."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from models.calibration import Calibration
from models.deepfm import DeepFMHead
from models.head import DeepFMConfig, Floats, Head

if not os.environ.get("CI"):  # there it must be
    pytest.importorskip("models._native", reason="built without a C compiler")

SHAPES = [(39, 16, (400, 400, 400)), (5, 4, (7,)), (3, 1, (17, 33)), (12, 8, (64, 63, 1)), (1, 3, (16,))]


def make_heads(num_fields: int, dim: int, hidden: tuple[int, ...], *, batch_norm: bool = False) -> tuple[Head, Head]:
    torch.manual_seed(num_fields)
    module = DeepFMHead(DeepFMConfig(embedding_dim=dim, hidden=hidden, batch_norm=batch_norm), num_fields)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    compiled, plain = module.frozen(), module.frozen()
    assert compiled._compiled is not None
    plain._compiled = None
    return compiled, plain


def make_fields(num_rows: int, num_fields: int, dim: int) -> Floats:
    rng = np.random.default_rng(num_rows)
    return rng.standard_normal((num_rows, num_fields * (dim + 1)), dtype=np.float32) * np.float32(0.3)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize(("num_fields", "dim", "hidden"), SHAPES)
@pytest.mark.parametrize("num_rows", [0, 1, 2, 5, 6, 7, 95, 96, 97, 300])
def test_the_logits_are_those_of_numpy(
    num_rows: int, num_fields: int, dim: int, hidden: tuple[int, ...], batch_norm: bool
) -> None:
    compiled, plain = make_heads(num_fields, dim, hidden, batch_norm=batch_norm)
    fields = make_fields(num_rows, num_fields, dim)
    np.testing.assert_allclose(compiled.logits(fields), plain.logits(fields), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(("num_fields", "dim", "hidden"), SHAPES)
def test_a_row_has_the_same_bits_alone_and_among_others(num_fields: int, dim: int, hidden: tuple[int, ...]) -> None:
    compiled, _ = make_heads(num_fields, dim, hidden)
    fields = make_fields(203, num_fields, dim)
    together = compiled.logits(fields)
    for start, end in [(i, i + 1) for i in range(203)] + [(0, 100), (3, 203), (50, 57)]:
        np.testing.assert_array_equal(compiled.logits(fields[start:end]), together[start:end])


@pytest.mark.parametrize(("num_fields", "dim", "hidden"), SHAPES[:-1])
def test_a_ranking_is_that_of_numpy(num_fields: int, dim: int, hidden: tuple[int, ...]) -> None:
    compiled, plain = make_heads(num_fields, dim, hidden)
    split = num_fields // 2 + 1
    context, candidates = make_fields(1, split, dim), make_fields(201, num_fields - split, dim)
    halves = compiled.part(range(split))(context), compiled.part(range(split, num_fields))(candidates)
    places = np.random.default_rng(3).integers(0, 201, 150)
    found = compiled.rank(*halves, places)
    np.testing.assert_allclose(found, plain.rank(*halves, places), rtol=2e-5, atol=2e-5)
    whole = np.concatenate([np.repeat(context, 150, axis=0), candidates[places]], axis=1)
    np.testing.assert_allclose(found, compiled.logits(whole), rtol=2e-5, atol=2e-5)


def test_what_is_no_number_stays_none() -> None:
    compiled, plain = make_heads(3, 2, (8,))
    fields = make_fields(3, 3, 2)
    fields[1, 0] = np.nan
    for head in (compiled, plain):
        assert np.isnan(head.logits(fields)).tolist() == [False, True, False]


@pytest.mark.parametrize("negatives_kept", [1.0, 0.1])
def test_probabilities_are_those_of_numpy(negatives_kept: float, monkeypatch: pytest.MonkeyPatch) -> None:
    calibration = Calibration(method="platt", slope=0.7, intercept=-0.3, negatives_kept=negatives_kept)
    logits = np.concatenate([np.linspace(-40, 40, 1_001), [np.nan, np.inf, -np.inf]]).astype(np.float32)
    compiled = calibration.of_traffic(logits)
    monkeypatch.setattr("models.calibration.compiled_platt", None)
    np.testing.assert_allclose(compiled, calibration.of_traffic(logits), rtol=1e-14)


def test_arrays_that_do_not_fit_are_refused() -> None:
    from models._native import Head as Compiled

    ones = np.ones
    with pytest.raises(ValueError, match="layer 0 does not fit"):
        Compiled(2, 3, ((ones((5, 4), np.float32), ones(4, np.float32)),), ones(4, np.float32), 0.0)
    with pytest.raises(ValueError, match="the last layer"):
        Compiled(2, 3, ((ones((6, 4), np.float32), ones(4, np.float32)),), ones(5, np.float32), 0.0)
    with pytest.raises(ValueError, match="sizes"):
        Compiled(2, 3, (), ones(5, np.float32), 0.0)
    head = Compiled(2, 3, ((ones((6, 4), np.float32), ones(4, np.float32)),), ones(4, np.float32), 0.0)
    with pytest.raises(ValueError, match="rows of 6"):
        head.logits(ones(7, np.float32))
    context, candidates, squares = ones((1, 7), np.float32), ones((2, 7), np.float32), ones(2, np.float32)
    places = np.array([1, 0, 1])
    assert len(head.rank(context, squares[:1], candidates, squares, places)) == 12
    for wrong in (
        (candidates, squares[:1], candidates, squares, places),
        (context, squares, candidates, squares, places),
        (context, squares[:1], context, squares, places),
        (context, squares[:1], candidates, squares[:1], places),
        (context, squares[:1], candidates, squares, places + 1),
        (context, squares[:1], candidates, squares, places - 1),
    ):
        with pytest.raises(ValueError, match="halves of one context"):
            head.rank(*wrong)
