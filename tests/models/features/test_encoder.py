import math
from collections.abc import Sequence

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pytest
import xxhash
from hypothesis import given, settings

from models.data.chunk_encoder import encode_frame
from models.features.encoder import EncodedBatch, FeatureEncoder, assemble
from models.features.field_encoder import Column, Value
from models.features.token_spelling import spell
from models.features.vocabulary import MISSING, NUM_SPECIAL, OOV
from models.schema.feature_schema import FeatureSchema, FittedSchema, Pooling
from tests.making import fit_encoder

SCHEMA = FeatureSchema.model_validate(
    {
        "label": "click",
        "field": [
            {"name": "user", "kind": "categorical", "min_count": 1},
            {"name": "ad", "kind": "categorical", "min_count": 2, "side": "candidate"},
            {"name": "seen", "kind": "sequence", "vocabulary": "ad", "max_length": 3},
            {"name": "price", "kind": "numeric", "bins": 4},
            {"name": "site", "kind": "categorical", "buckets": 16},
        ],
    }
)


def make_log() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "click": pl.Series([0, 1, 0, 1, 0, 0], dtype=pl.Int8),
            "user": ["7", "7", "9", None, "12", "9"],
            "ad": ["x", "x", "y", "x", "y", "z"],
            "seen": [["x"], [], None, ["y", "x", "x", "x"], ["z"], ["q", "y"]],
            "price": [1.0, 2.0, 2.0, None, 8.0, 5.0],
            "site": ["a", "b", None, "a", "c", "d"],
        },
        schema_overrides={"seen": pl.List(pl.String)},
    )


def make_encoder(pooling: Pooling = "sqrtn") -> FeatureEncoder:
    document = SCHEMA.model_dump(by_alias=True)
    document["field"][2]["pooling"] = pooling
    return fit_encoder(make_log(), FeatureSchema.model_validate(document), np.arange(6))


def slow_encode(encoder: FeatureEncoder, columns: Sequence[Sequence[Value]]) -> list[list[list[int]]]:
    """Encode one value at a time, from the definition alone: rows of each bag, by impression and field."""
    starts, at = {}, 0
    for block, n in encoder.schema.num_tokens.items():
        starts[block], at = at, at + NUM_SPECIAL + n

    def token_row(block: str, token: object, vocabulary: str) -> int:
        if token is None or token == "":
            return starts[block] + MISSING
        if block == "site":
            return starts[block] + NUM_SPECIAL + xxhash.xxh3_64_intdigest(spell(str(token)).encode()) % 16
        known = encoder.vocabularies[vocabulary].tokens()
        return starts[block] + (NUM_SPECIAL + known.index(str(token)) if str(token) in known else OOV)

    out = []
    for b in range(len(columns[0])):
        bags = []
        for spec, fitted, values in zip(encoder.schema.features.fields, encoder.schema.fitted, columns, strict=True):
            v, block = values[b], spec.name if fitted.own_rows else spec.block
            if spec.kind == "numeric":
                bins = sum(cut <= v for cut in fitted.boundaries) if v is not None else 0  # type: ignore[operator]
                bags.append([starts[spec.block] + (MISSING if v is None else NUM_SPECIAL + bins)])
            elif spec.kind == "sequence":
                assert v is None or isinstance(v, list)
                bags.append(
                    [token_row(block, t, spec.block) for t in ([t for t in v or [] if t] or [None])[-spec.max_length :]]
                )
            else:
                bags.append([token_row(block, v, spec.block)])
        out.append(bags)
    return out


def bags_of(encoder: FeatureEncoder, columns: Sequence[Sequence[Value]]) -> list[list[list[int]]]:
    batch = encoder.encode(columns)
    F = batch.num_fields
    bags = [batch.ids[a:b].tolist() for a, b in zip(batch.offsets, batch.offsets[1:], strict=False)]
    poolings = [fitted.pooling for fitted in encoder.schema.fitted] * (len(bags) // F)
    for bag, start, pooling in zip(bags, batch.offsets, poolings, strict=False):
        weight = 1 / (len(bag) if pooling == "mean" else math.sqrt(len(bag)))
        assert batch.weights[start : start + len(bag)].tolist() == [np.float32(weight)] * len(bag)
    return [bags[i : i + F] for i in range(0, len(bags), F)]


rows = st.tuples(
    st.none() | st.sampled_from([7, 9, 12, 13, 2**63 - 1, -1]),
    st.none() | st.sampled_from(["x", "y", "z", "", "ü"]),
    st.none() | st.lists(st.sampled_from(["x", "y", "z", "?"]), max_size=5),
    st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([1.0, 2.0, 5.0, 8.0]),
    st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
)


@settings(deadline=None)
@given(st.lists(rows, min_size=1, max_size=8), st.sampled_from(["mean", "sqrtn"]))
def test_encoding_equals_the_definition_value_by_value(impressions: list[tuple[Value, ...]], pooling: Pooling) -> None:
    encoder = make_encoder(pooling)
    columns = [list(column) for column in zip(*impressions, strict=True)]
    assert bags_of(encoder, columns) == slow_encode(encoder, columns)


@settings(deadline=None)
@given(st.lists(rows, min_size=1, max_size=4))
def test_without_sequences_encoding_equals_the_definition_too(impressions: list[tuple[Value, ...]]) -> None:
    at = [i for i, f in enumerate(SCHEMA.fields) if f.kind != "sequence"]
    single = SCHEMA.model_copy(update={"fields": tuple(SCHEMA.fields[i] for i in at)})
    columns = [[impression[i] for impression in impressions] for i in at]
    encoder = fit_encoder(make_log(), single, np.arange(6))
    assert encoder.encode(columns).is_single
    assert bags_of(encoder, columns) == slow_encode(encoder, columns)


def test_tokens_that_share_nothing_but_their_name_are_told_apart() -> None:
    schema = FeatureSchema.model_validate(
        {
            "label": "click",
            "field": [{"name": name, "kind": "categorical", "min_count": 1} for name in ("text", "number", "other")],
        }
    )
    frame = pl.DataFrame(
        {"click": pl.Series([0, 1], dtype=pl.Int8), "text": ["1", "2"], "number": ["2", "1"], "other": ["2", "3"]}
    )
    encoder = fit_encoder(frame, schema, np.arange(2))
    columns: list[list[Value]] = [["1", "2", None], [1, 2, None], [1, 2, None]]
    assert encoder.encode(columns).ids.tolist() == [2, 6, 9, 3, 7, 10, 0, 4, 8]


def test_vocabularies_are_ordered_by_count_then_token_and_rare_tokens_are_left_out() -> None:
    encoder = make_encoder()
    assert encoder.vocabularies["ad"].tokens() == [
        "x",
        "y",
        "z",
    ]  # with those of 'seen': x 7, y 4, z 2, and q 1 is rare
    assert encoder.vocabularies["user"].tokens() == ["7", "9", "12"]
    assert encoder.schema.num_tokens == {"user": 3, "ad": 3, "seen": 3, "price": 3, "site": 16}


def test_a_field_that_shares_a_vocabulary_has_rows_of_its_own_with_the_owners_embeddings() -> None:
    encoder = make_encoder()
    ad, seen = (encoder.start_of[name] for name in ("ad", "seen"))
    owners = encoder.embedding_rows()
    assert owners is not None
    assert owners[seen : seen + 5].tolist() == list(range(ad, ad + 5))
    others = np.delete(np.arange(encoder.num_rows), range(seen, seen + 5))
    assert (owners[others] == others).all()
    shared = encoder.schema.model_dump(mode="json")  # as in an artifact of version 0.1
    for fitted in shared["fitted"]:
        del fitted["own_rows"]
    del shared["num_tokens"]["seen"]
    before = FeatureEncoder(FittedSchema.model_validate(shared), encoder.vocabularies)
    assert before.embedding_rows() is None
    assert before.fields[2].start == before.fields[1].start


def test_a_frame_is_encoded_as_its_values_are() -> None:
    encoder, log = make_encoder(), make_log()
    columns: list[list[Value]] = [log[f.name].to_list() for f in SCHEMA.fields]
    columns[0] = [None if v is None else int(str(v)) for v in columns[0]]
    bulk, single = encode_frame(encoder, log).unpack(), encoder.encode(columns)
    for name in ("ids", "weights", "offsets"):
        np.testing.assert_array_equal(getattr(bulk, name), getattr(single, name))


def test_taking_rows_equals_encoding_those_rows() -> None:
    encoder, log = make_encoder(), make_log()
    at = np.array([4, 0, 3, 3])
    taken, direct = (encode_frame(encoder, frame).unpack() for frame in (log, log[at]))
    taken = taken.take(at)
    for name in ("ids", "weights", "offsets"):
        np.testing.assert_array_equal(getattr(taken, name), getattr(direct, name))


@pytest.mark.parametrize("cuts", [[], [40], [1, 2, 3, 90]])
@pytest.mark.parametrize("is_single", [True, False])
def test_joining_parts_equals_encoding_them_together(cuts: list[int], is_single: bool) -> None:
    log, encoder = make_log(), make_encoder()
    whole = encode_frame(encoder, log).unpack()
    if is_single:
        whole = EncodedBatch.single(whole.ids[whole.offsets[:-1]], whole.num_fields)
    parts = np.split(np.arange(len(whole)), cuts)
    joined = EncodedBatch.join([whole.take(part) for part in parts])
    assert joined.is_single == is_single
    for name in ("ids", "weights", "offsets"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))


def test_special_values_are_counted_by_field() -> None:
    encoder = make_encoder()
    batch = encoder.encode([[None, 1], ["x", "?"], [[], ["?", "x", "?"]], [None, 1.0], ["a", None]])
    assert encoder.count_special(batch).tolist() == [[1, 0, 1, 1, 1], [1, 1, 2, 0, 0]]
    assert encoder.name_special(batch) == (
        {"user": 1, "seen": 1, "price": 1, "site": 1},
        {"user": 1, "ad": 1, "seen": 2},
    )
    assert encoder.count_special(batch.take(np.ones(100, np.int64)))[1].tolist() == [100, 100, 200, 0, 0]


def test_single_columns_interleave_to_a_matrix() -> None:
    batch = assemble([Column(np.array([1, 2])), Column(np.array([3, 4]))])
    assert batch.is_single
    assert (batch.ids.tolist(), len(batch)) == ([1, 3, 2, 4], 2)
