"""The compiled head is the head in numpy, and gives a row the same bits whatever it is scored with."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from models.network.compiled_head import KNOWN_BYTES, Floats, KnownField
from models.network.deepfm import DeepFMHead
from models.network.head import DeepFMConfig, Head, Pooled

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


def pooled(fields: Floats, num_fields: int) -> Pooled:
    return Pooled(fields, np.zeros(len(fields) * num_fields, np.int64))


def make_fields(num_rows: int, num_fields: int, dim: int) -> Floats:
    rng = np.random.default_rng(num_rows)
    return rng.standard_normal((num_rows, num_fields * (dim + 1)), dtype=np.float32) * np.float32(0.3)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize(("num_fields", "dim", "hidden"), SHAPES)
@pytest.mark.parametrize("num_rows", [0, 1, 2, 5, 6, 7, 255, 256, 257, 600])
def test_the_logits_are_those_of_numpy(
    num_rows: int, num_fields: int, dim: int, hidden: tuple[int, ...], batch_norm: bool
) -> None:
    compiled, plain = make_heads(num_fields, dim, hidden, batch_norm=batch_norm)
    fields = pooled(make_fields(num_rows, num_fields, dim), num_fields)
    np.testing.assert_allclose(compiled.logits(fields), plain.logits(fields), rtol=2e-5, atol=2e-5)


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered")
@pytest.mark.parametrize(("num_fields", "dim", "hidden"), SHAPES)
def test_sums_too_large_stay_within_their_row(num_fields: int, dim: int, hidden: tuple[int, ...]) -> None:
    compiled, plain = make_heads(num_fields, dim, hidden)
    rows = make_fields(6, num_fields, dim)
    rows[1] *= np.float32(3e38)
    rows[4] = np.inf
    found, wanted = (head.logits(pooled(rows, num_fields)) for head in (compiled, plain))
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(wanted))
    np.testing.assert_allclose(found[[0, 2, 3, 5]], wanted[[0, 2, 3, 5]], rtol=2e-5, atol=2e-5)
    assert not np.isfinite(found[4])


def assert_same_bits(head: Head, whole: Pooled, num_fields: int) -> None:
    together = head.logits(whole)
    for start, end in [(i, i + 1) for i in range(303)] + [(0, 100), (3, 303), (50, 57)]:
        part = Pooled(whole.fields[start:end], whole.ids[start * num_fields : end * num_fields])
        np.testing.assert_array_equal(head.logits(part), together[start:end])


@pytest.mark.parametrize(("num_fields", "dim", "hidden"), SHAPES)
def test_a_row_has_the_same_bits_alone_and_among_others(num_fields: int, dim: int, hidden: tuple[int, ...]) -> None:
    compiled, _ = make_heads(num_fields, dim, hidden)
    assert_same_bits(compiled, pooled(make_fields(303, num_fields, dim), num_fields), num_fields)


@pytest.mark.parametrize("num_known", [1, 2, 5])
@pytest.mark.parametrize(("num_fields", "dim", "hidden"), [*SHAPES, (7, 4, (150, 9))])
def test_known_fields_change_nothing_but_rounding(
    num_known: int, num_fields: int, dim: int, hidden: tuple[int, ...]
) -> None:
    module = DeepFMHead(DeepFMConfig(embedding_dim=dim, hidden=hidden), num_fields)
    tensors = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    rng = np.random.default_rng(num_known)
    table = make_fields(20 * num_fields, 1, dim)
    sizes = rng.integers(1, 8, num_fields)
    single = {f: KnownField(20 * f, table[20 * f : 20 * f + sizes[f]]) for f in range(0, num_fields, num_known)}
    with_known, without = (Head(module.config, num_fields, tensors, fields) for fields in (single, None))
    ids = (20 * np.arange(num_fields) + rng.integers(0, sizes, (303, num_fields))).reshape(-1)
    whole = Pooled(table[ids].reshape(303, -1), ids)
    np.testing.assert_allclose(with_known.logits(whole), without.logits(whole), rtol=1e-5, atol=1e-5)
    assert_same_bits(with_known, whole, num_fields)
    for f in single:
        for wrong in (20 * f - 1, 20 * f + sizes[f], -(2**63)):
            ids[57 * num_fields + f] = wrong
            with pytest.raises(ValueError, match=f"field {f} does not have"):
                with_known.logits(whole)
            ids[57 * num_fields + f] = 20 * f


def test_no_more_is_known_than_fits() -> None:
    module = DeepFMHead(DeepFMConfig(embedding_dim=2, hidden=(64,)), 3)
    tensors = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    most = KNOWN_BYTES // (4 * 64)
    sizes = {0: most // 2, 1: most, 2: most // 2}
    table = make_fields(sum(sizes.values()), 1, 2)
    single = {f: KnownField(0, table[:size]) for f, size in sizes.items()}
    head = Head(module.config, 3, tensors, single)
    outside = np.zeros(3, np.int64) - 1
    whole = Pooled(make_fields(1, 3, 2), outside)
    with pytest.raises(ValueError, match="field 0 does not have"):
        head.logits(whole)
    outside[[0, 2]] = 0
    assert np.isfinite(head.logits(whole)).all()  # whatever stands for field 1 is not looked at


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
    np.testing.assert_allclose(found, compiled.logits(pooled(whole, num_fields)), rtol=2e-5, atol=2e-5)


def test_what_is_no_number_stays_none() -> None:
    compiled, plain = make_heads(3, 2, (8,))
    fields = make_fields(3, 3, 2)
    fields[1, 0] = np.nan
    for head in (compiled, plain):
        assert np.isnan(head.logits(pooled(fields, 3))).tolist() == [False, True, False]


def test_arrays_that_do_not_fit_are_refused() -> None:
    from models._native import Head as Compiled

    ones = np.ones
    nothing = (None, None)
    layer = ones((4, 4), np.float32), ones(4, np.float32)
    with pytest.raises(ValueError, match="layer 0 does not fit"):
        Compiled(2, 3, ((ones((5, 4), np.float32), ones(4, np.float32)),), ones(4, np.float32), 0.0, nothing)
    with pytest.raises(ValueError, match="layer 1 does not fit"):
        Compiled(2, 3, (layer, (ones((5, 4), np.float32), ones(4, np.float32))), ones(4, np.float32), 0.0, nothing)
    with pytest.raises(ValueError, match="the last layer"):
        Compiled(2, 3, (layer,), ones(5, np.float32), 0.0, nothing)
    for num_fields, layers, known in ((2, (), nothing), (2, (layer,), (None,))):
        with pytest.raises(ValueError, match="sizes"):
            Compiled(num_fields, 3, layers, ones(4, np.float32), 0.0, known)
    with pytest.raises(ValueError, match="rows of 3"):
        Compiled(2, 3, (layer,), ones(4, np.float32), 0.0, (None, (0, ones(4, np.float32))))
    head = Compiled(2, 3, (layer,), ones(4, np.float32), 0.0, nothing)
    with pytest.raises(ValueError, match="rows of 6"):
        head.logits(ones(7, np.float32), np.zeros(2, np.int64))
    with pytest.raises(ValueError, match="one row of the table for each"):
        head.logits(ones(6, np.float32), np.zeros(4, np.int64))
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
