"""What only the compiled head promises: equal bits, precomputed products, and a refusal of arrays that do not fit."""

from __future__ import annotations

import os
from importlib.util import find_spec

import numpy as np
import pytest

from models.network.head import Activation, DeepFMConfig, Floats, Head, Pooled, SideActivations

if find_spec("models._native") is None:
    assert not os.environ.get("CI")  # there it must be built
    pytest.skip("built without a C compiler", allow_module_level=True)

from models.network.compiled_head import PRECOMPUTED_BYTES, CompiledHead
from tests.models.network.making import SHAPES, WIDTHS, make_fields, make_module, pooled, reference, tensors_of


@pytest.mark.parametrize("longest", WIDTHS)
@pytest.mark.parametrize("activation", ["relu", "prelu", "dice"])
@pytest.mark.parametrize(("num_fields", "dim", "hidden"), SHAPES)
def test_an_impression_has_the_same_bits_alone_and_among_others(
    num_fields: int, dim: int, hidden: tuple[int, ...], activation: Activation, longest: int
) -> None:
    module = make_module(DeepFMConfig(embedding_dim=dim, hidden=hidden, activation=activation), num_fields)
    head = CompiledHead(module.config, num_fields, tensors_of(module), longest=longest)
    assert_same_bits(head, pooled(make_fields(303, num_fields, dim), num_fields), num_fields)
    context = head.side_activations([0], make_fields(1, 1, dim))
    candidates = head.side_activations(range(1, num_fields), make_fields(303, num_fields - 1, dim))
    ranked = head.rank(context, candidates, np.arange(303))
    for start, end in PARTS:
        np.testing.assert_array_equal(head.rank(context, candidates, np.arange(start, end)), ranked[start:end])
        part = head.side_activations(range(1, num_fields), make_fields(303, num_fields - 1, dim)[start:end])
        np.testing.assert_array_equal(part.product, candidates.product[start:end])
        np.testing.assert_array_equal(part.squares, candidates.squares[start:end])


PARTS = [(i, i + 1) for i in range(0, 303, 7)] + [(0, 100), (3, 303), (50, 57)]


def assert_same_bits(head: Head, whole: Pooled, num_fields: int) -> None:
    together = head.logits(whole)
    for start, end in PARTS:
        part = Pooled(whole.fields[start:end], whole.ids[start * num_fields : end * num_fields])
        np.testing.assert_array_equal(head.logits(part), together[start:end])


@pytest.mark.parametrize("every", [1, 2, 5])
@pytest.mark.parametrize(("num_fields", "dim", "hidden"), [*SHAPES, (7, 4, (150, 9))])
def test_precomputed_products_change_nothing_but_rounding(
    every: int, num_fields: int, dim: int, hidden: tuple[int, ...]
) -> None:
    module = make_module(DeepFMConfig(embedding_dim=dim, hidden=hidden), num_fields)
    rng = np.random.default_rng(every)
    table = make_fields(20 * num_fields, 1, dim)
    sizes = rng.integers(1, 8, num_fields)
    single = {f: (20 * f, 20 * f + int(sizes[f])) for f in range(0, num_fields, every)}
    ids = (20 * np.arange(num_fields) + rng.integers(0, sizes, (303, num_fields))).reshape(-1)
    whole = Pooled(table[ids].reshape(303, -1), ids)
    expected = reference(module, whole.fields)
    for longest in WIDTHS:
        head = CompiledHead(module.config, num_fields, tensors_of(module), table, single, longest)
        np.testing.assert_allclose(head.logits(whole), expected, rtol=2e-5, atol=2e-5)
        assert_same_bits(head, whole, num_fields)
    for f, (start, end) in single.items():
        for wrong in (start - 1, end, -(2**63)):
            ids[57 * num_fields + f] = wrong
            with pytest.raises(ValueError, match=f"field {f} has no table row {wrong}"):
                head.logits(whole)
            ids[57 * num_fields + f] = start


def test_the_smallest_fields_are_precomputed_as_far_as_there_is_room() -> None:
    module = make_module(DeepFMConfig(embedding_dim=2, hidden=(64,)), 3)
    most = PRECOMPUTED_BYTES // (4 * 64)
    table = make_fields(most, 1, 2)
    single = {0: (0, most // 2), 1: (0, most), 2: (0, most // 2)}
    head = CompiledHead(module.config, 3, tensors_of(module), table, single)
    fields, ids = make_fields(1, 3, 2), np.zeros(3, np.int64) - 1
    with pytest.raises(ValueError, match="field 0 has no table row"):
        head.logits(Pooled(fields, ids))
    ids[[0, 2]] = 0
    assert np.isfinite(head.logits(Pooled(fields, ids))).all()  # the id of field 1 is not looked at


def test_arrays_that_do_not_fit_are_refused() -> None:
    module = make_module(DeepFMConfig(embedding_dim=2, hidden=(4,)), 3)
    head = CompiledHead(module.config, 3, tensors_of(module))
    fields = make_fields(2, 3, 2)
    context = head.side_activations([0], fields[:1, :3])
    candidates = head.side_activations([1, 2], fields[:, 3:])
    ids, places = np.zeros(6, np.int64), np.arange(2)
    for wrong in (
        Pooled(fields[:1], ids),
        Pooled(fields, ids[:5]),
        Pooled(fields.astype(np.float64), ids),
        Pooled(fields.view(np.int32), ids),
        Pooled(fields, ids.astype(np.int32)),
    ):
        with pytest.raises(ValueError, match="expected"):
            head.logits(wrong)
    for positions, some in (([0], fields), ([3], fields[:, :3]), ([-1], fields[:, :3])):
        with pytest.raises(ValueError, match="expected"):
            head.side_activations(positions, some)
    short = SideActivations(candidates.product[:1], candidates.squares)
    for wrong_sides in ((candidates, candidates), (context, short), (context, context._replace(product=fields))):
        with pytest.raises(ValueError, match="expected"):
            head.rank(*wrong_sides, places)


def test_weights_that_do_not_fit_are_refused() -> None:
    from models._native import Head as Native

    def ones(*shape: int) -> Floats:
        return np.ones(shape, np.float32)

    relu = ones(4, 4), ones(4), "relu", ones(0)
    fits = 2, 2, (relu,), ones(4), 0.0, (None, (0, ones(5, 3)))
    Native(*fits)
    for place, wrong in (
        (0, 0),
        (1, 0),
        (2, ()),
        (2, ((ones(5, 4), *relu[1:]),)),
        (2, (relu, (ones(5, 4), *relu[1:]))),
        (2, ((np.ones((4, 4)), *relu[1:]),)),
        (2, ((ones(4, 4), ones(0), "relu", ones(0)),)),
        (2, ((*relu[:2], "prelu", ones(3)),)),
        (3, ones(5)),
        (5, (None,)),
        (5, (None, (0, ones(4)))),
    ):
        with pytest.raises(ValueError, match="expected"):
            Native(*fits[:place], wrong, *fits[place + 1 :])  # type: ignore[arg-type,call-arg]
    with pytest.raises(ValueError, match="unknown activation 'gelu'"):
        Native(2, 2, ((*relu[:2], "gelu", ones(0)),), *fits[3:])
