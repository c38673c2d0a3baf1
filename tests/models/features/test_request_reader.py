"""The compiled reader itself; that it reads what Pydantic and the encoder read is tested in tests.app.wire."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from models.artifact.artifact import Artifact
from models.features.encoder import FeatureEncoder
from models.features.field_encoder import Value
from models.features.request_reader import (
    Fault,
    Limits,
    PredictReader,
    PredictReading,
    RankReader,
    RankReading,
    keep_cpu,
)
from models.features.vocabulary import Vocabulary
from models.schema.feature_schema import FeatureSchema, FieldSpec, FittedField, FittedSchema, Pooling, Side, TokenType

if not os.environ.get("CI"):  # there it must be
    pytest.importorskip("models._native", reason="built without a C compiler")

LIMITS = Limits(max_rows=50, max_chars=256)
NOT_CALLED: Any = keep_cpu
REST: Any = ("|", (), (), (), NOT_CALLED)
"""Of the arguments of the compiled reader: no field derives from a time."""


def make_encoder(*fields: FieldSpec, vocabularies: dict[str, list[str]]) -> FeatureEncoder:
    dtypes: list[TokenType | None] = [None if f.kind == "numeric" else "string" for f in fields]
    fitted = tuple(FittedField(dtype=t, pooling=f.pooling or "mean") for f, t in zip(fields, dtypes, strict=True))
    sizes = {f.block: f.buckets or len(vocabularies.get(f.block, [0])) for f in fields}
    schema = FittedSchema(features=FeatureSchema(label="click", fields=fields), fitted=fitted, num_tokens=sizes)
    return FeatureEncoder(schema, {name: Vocabulary.from_tokens(tokens) for name, tokens in vocabularies.items()})


def predict(encoder: FeatureEncoder, body: Any) -> PredictReading:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = PredictReader(encoder, LIMITS).read(text)
    assert isinstance(found, PredictReading), found
    return found


def test_tokens_of_every_allowed_length_are_found() -> None:
    tokens = (
        [("né" * n)[:n] for n in range(1, 257)] + ["y" * n for n in range(1, 257)] + ["🙂" * n for n in range(1, 257)]
    )
    tokens = list(dict.fromkeys(tokens))
    fields = FieldSpec(name="a", kind="categorical"), FieldSpec(name="b", kind="categorical", buckets=97)
    encoder = make_encoder(*fields, vocabularies={"a": tokens})
    for start in range(0, len(tokens), 50):
        some = tokens[start : start + 50]
        expected = encoder.encode([some, some]).ids
        assert (expected[::2] >= 2).all()
        for ensure_ascii in (False, True):
            body = json.dumps({"inputs": {"a": some, "b": some}}, ensure_ascii=ensure_ascii).encode()
            np.testing.assert_array_equal(predict(encoder, body).batch.ids, expected)


def test_weights_of_every_length_have_the_encoders_bits() -> None:
    def sequence(name: str, side: Side, pooling: Pooling) -> FieldSpec:
        return FieldSpec(name=name, kind="sequence", side=side, buckets=9, max_length=1_000, pooling=pooling)

    fields = (
        sequence("a", "context", "sqrtn"),
        sequence("b", "context", "mean"),
        FieldSpec(name="c", kind="categorical", side="candidate", buckets=9),
        sequence("d", "candidate", "mean"),
        sequence("e", "candidate", "sqrtn"),
    )
    encoder = make_encoder(*fields, vocabularies={})
    reader = RankReader(encoder, LIMITS)
    for n in range(1, 1_001):
        values: list[Value] = [["x"] * n, ["x"] * (1_001 - n), "x", ["x"] * n, ["x"] * (1_001 - n)]
        row = dict(zip("abcde", values, strict=True))
        context, candidate = ({name: row[name] for name in names} for names in ("ab", "cde"))
        ranking = reader.read(json.dumps({"context": context, "candidates": [candidate]}).encode())
        assert isinstance(ranking, RankReading)
        assert ranking.context is not None
        assert ranking.candidates is not None
        expected = encoder.encode([[value] for value in values]).weights.tobytes()
        assert predict(encoder, {"instances": [row]}).batch.weights.tobytes() == expected
        assert ranking.context.weights.tobytes() + ranking.candidates.weights.tobytes() == expected


def test_a_vocabulary_whose_arrays_leave_their_text_finds_nothing(artifact: Artifact) -> None:
    vocabularies = artifact.encoder.vocabularies
    v = vocabularies["ad_id"]
    body = {"instances": [{"ad_id": "ad1", "user_id": None}]}
    assert predict(artifact.encoder, body).unseen == {}
    for name in ("positions", "ends"):
        damaged = Vocabulary({**v.arrays, name: v.arrays[name] + 10**12})
        encoder = FeatureEncoder(artifact.schema, {**vocabularies, "ad_id": damaged})
        assert predict(encoder, body).unseen == {"ad_id": 1}


def test_arrays_of_a_memory_map_need_not_be_aligned(artifact: Artifact) -> None:
    def shifted(array: np.ndarray) -> np.ndarray:
        return np.frombuffer(b"x" + array.tobytes(), np.uint8)[1:].view(array.dtype)

    vocabularies = {
        name: Vocabulary({part: shifted(array) for part, array in v.arrays.items()})
        for name, v in artifact.encoder.vocabularies.items()
    }
    encoder = FeatureEncoder(artifact.schema, vocabularies)
    body = {"instances": [{"ad_id": f"ad{i}", "user_id": i, "clicked_ads": ["ad1"]} for i in range(50)]}
    np.testing.assert_array_equal(predict(encoder, body).batch.ids, predict(artifact.encoder, body).batch.ids)


def test_a_name_with_letters_of_any_kind_is_read_in_every_spelling() -> None:
    name = "prix é 价"
    encoder = make_encoder(FieldSpec(name=name, kind="categorical"), vocabularies={name: ["x"]})
    for ensure_ascii in (False, True):
        body = json.dumps({"inputs": {name: ["x", "y", None]}}, ensure_ascii=ensure_ascii).encode()
        assert predict(encoder, body).batch.ids.tolist() == [2, 1, 0]


def test_of_a_field_that_is_given_twice_the_last_value_counts_and_is_counted(artifact: Artifact) -> None:
    names = artifact.encoder.names
    values: dict[str, list[str]] = {
        "user_id": ["7", "null", "-5"],
        "ad_id": ['"ad1"', "null", '"?"', '"a\\u0064\\u0031"'],
        "price": ["1.5", "null"],
        "clicked_ads": ['["ad1","?"]', "[]", "null", '["ad2"]'],
    }
    for name, choices in values.items():
        for first in choices:
            for last in choices:
                twice = f'{{"instances":[{{"{name}":{first},"site":"s","{name}":{last}}}]}}'.encode()
                once = f'{{"instances":[{{"site":"s","{name}":{last}}}]}}'.encode()
                a, b = predict(artifact.encoder, twice), predict(artifact.encoder, once)
                assert a.batch.ids.tolist() == b.batch.ids.tolist()
                assert a.batch.offsets.tolist() == b.batch.offsets.tolist()
                assert a[1:] == b[1:]
    assert set(values) < set(names)


def test_a_request_may_repeat_as_many_values_as_it_may_have_rows(artifact: Artifact) -> None:
    for num_repeated in (50, 51):
        row = "{" + ",".join(['"price":1'] * (num_repeated - 9)) + "}"
        rows = ",".join([row, '{"ad_id":"ad1"' + ',"ad_id":"ad2"' * 10 + "}"])
        found = PredictReader(artifact.encoder, LIMITS).read(f'{{"instances":[{rows}]}}'.encode())
        assert (found == Fault("more than 50 repeated values", 1, "instances")) == (num_repeated > 50)


def test_readings_of_one_model_share_the_index_of_a_vocabulary(artifact: Artifact) -> None:
    token_ids = {id(f.token_ids) for f in artifact.encoder.fields if f.spec.block == "ad_id"}
    assert len(token_ids) == 1
    before = artifact.encoder.vocabularies["ad_id"].compiled
    RankReader(artifact.encoder, LIMITS)
    assert artifact.encoder.vocabularies["ad_id"].compiled is before


def test_a_model_of_one_side_can_be_ranked_or_not() -> None:
    both = FieldSpec(name="a", kind="categorical", side="candidate")
    encoder = make_encoder(both, vocabularies={"a": ["x"]})
    found = RankReader(encoder, LIMITS).read(b'{"context": {"b": 1}, "candidates": [{"a": "x"}, {}]}')
    assert isinstance(found, RankReading)
    assert (found.context, found.missing, found.unknown_fields) == (None, {"a": 1}, {"b": 1})
    assert found.candidates is not None
    assert found.candidates.ids.tolist() == [2, 0]


def test_candidates_share_a_sequence_of_the_context() -> None:
    page = FieldSpec(name="page", kind="categorical", buckets=9)
    words = FieldSpec(name="words", kind="sequence", side="candidate", max_length=2)
    encoder = make_encoder(page, words, vocabularies={"words": ["a", "b", "c"]})
    body = (
        b'{"candidates": [{"words": ["c"]}, {}, {"words": []}, {"words": null}], "context": {"words": ["?", "a", "b"]}}'
    )
    found = RankReader(encoder, LIMITS).read(body)
    assert isinstance(found, RankReading)
    expected = encoder.side("candidate").encode([[["c"], *[["a", "b"]] * 3]])
    assert found.candidates is not None
    for part in ("ids", "offsets", "weights"):
        np.testing.assert_array_equal(getattr(found.candidates, part), getattr(expected, part))
    assert (found.missing, found.unseen, found.unknown_fields) == ({"page": 1}, {}, {})
    again = RankReader(encoder, LIMITS).read(b'{"candidates": [{}], "context": {}}')  # nothing stays
    assert isinstance(again, RankReading)
    assert again.missing == {"page": 1, "words": 1}


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"", Fault("the body is not a JSON object", None, None)),
        (b'{"instances": [{}]} x', Fault("the body goes on after its JSON object", None, None)),
        (b'{"x": 1}', Fault("the body has a part that it must not have", None, None)),
        (b'{"instances": []}', Fault("expected a list of 1 to 50 objects", None, "instances")),
        (b'{"instances": [{}, {"price": "x"}]}', Fault("expected a finite number, or null", 1, "price")),
        (b'{"instances": [{}, {"user_id": 1.5}]}', Fault("expected an integer, or null", 1, "user_id")),
        (b'{"instances": [{"ad_id": []}]}', Fault("expected a string, or null", 0, "ad_id")),
        (b'{"instances": [{}, 1]}', Fault("expected an object", 1, "instances")),
        (b'{"instances": [{"price" 1}]}', Fault("expected ':' after a field's name", 0, "instances")),
        (b'{"inputs": {"price": [1, "one"]}}', Fault("expected a finite number, or null", 1, "price")),
        (b'{"inputs": {"price": [1], "ad_id": []}}', Fault("expected a list of 1 to 50 values", None, "ad_id")),
        (b'{"inputs": {"price": [1], "ad_id": ["a", "b"]}}', Fault("all columns must have the same length", None, "inputs")),
        (b'{"inputs": {"price": [1], "price": [1]}}', Fault("given twice", None, "price")),
        (b'{"inputs": {"colour": [1]}}', Fault("expected at least one field of the model", None, "inputs")),
        (b'{"instances": [{}], "instances": [{}]}', Fault("given twice", None, "instances")),
        (b'{"instances": [{}], "inputs": {"price": [1]}}', Fault("give either 'instances' or 'inputs'", None, None)),
    ],
)  # fmt: skip
def test_a_refusal_says_where_and_what_was_expected(artifact: Artifact, body: bytes, fault: Fault) -> None:
    assert PredictReader(artifact.encoder, LIMITS).read(body) == fault


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b'{"context": {"user_id": "x"}}', Fault("expected an integer, or null", None, "user_id")),
        (b'{"context": null}', Fault("expected an object", None, "context")),
        (b'{"candidates": [{}, {"price": "-"}]}', Fault("expected a finite number, or null", 1, "price")),
        (b'{"candidate_ids": ["a", 1]}', Fault("expected a string of at most 256 characters", 1, "candidate_ids")),
        (b'{"candidate_ids": []}', Fault("expected a list of 1 to 50 strings", None, "candidate_ids")),
        (b'{"candidates": [{}], "top_k": 0}', Fault("expected an integer from 1 to 2^63 - 1", None, "top_k")),
        (b'{"candidates": [{}], "top_k": 1.0}', Fault("expected an integer from 1 to 2^63 - 1", None, "top_k")),
        (b'{"candidates": [{}], "candidate_ids": ["a"]}', Fault("give either 'candidates' or 'candidate_ids'", None, None)),
        (b'{"candidates": [{}, {"site": null}]}', Fault("is a field of the context, which all candidates share", 1, "site")),
        (b'{"context": {"price": "x"}}', Fault("expected a finite number, or null", None, "price")),
        (b'{"context": {"price": 1}, "candidate_ids": ["a"]}', Fault(
            "is a field of the candidates, and those of 'candidate_ids' have theirs from the catalog", None, "price"
        )),
        (b'{"context": {' + b", ".join([b'"price": 1'] * 60) + b'}}', Fault("more than 50 repeated values", None, "context")),
    ],
)  # fmt: skip
def test_a_refusal_of_a_ranking_does_too(artifact: Artifact, body: bytes, fault: Fault) -> None:
    assert RankReader(artifact.encoder, LIMITS).read(body) == fault


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb"])
def test_names_that_json_writes_in_several_ways_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="pattern"):
        FieldSpec(name=name, kind="categorical")


def test_descriptions_that_do_not_fit_are_refused() -> None:
    from models._native import RequestReader, TokenBlock

    hashes, numbers, text = np.zeros(2, np.uint64), np.zeros(2, np.int64), np.zeros(1, np.uint8)
    with pytest.raises(ValueError, match="differ in length"):
        TokenBlock(hashes, numbers[:1], numbers, text)
    for arrays in (
        (numbers, numbers, numbers, text),
        (hashes, numbers, numbers, numbers),
        (hashes[::2], numbers, numbers, text),
    ):
        with pytest.raises((ValueError, TypeError)):
            TokenBlock(*arrays)
    with pytest.raises(ValueError, match="bucket"):
        TokenBlock(0)
    block, none = TokenBlock(10), np.empty(0)
    for field in (("a", 0, None, 0, 0, 0, none), ("a", 0, object(), 0, 0, 0, none), ("a", 4, block, 0, 0, 0, none),
                  ('"', 0, block, 0, 0, 0, none), ("a", 3, None, 0, 5, 0, none), ("a", 0, block, 0, 5, 2, none),
                  ("a", 0, block, 0, 0, 0, numbers)):  # fmt: skip
        with pytest.raises(ValueError, match=r"field|expected"):
            RequestReader((field,), 10, 10, *REST)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="same name"):
        RequestReader((("a", 0, block, 0, 0, 0, none),) * 2, 10, 10, *REST)
    with pytest.raises(ValueError, match="same name"):
        RequestReader((("a", 0, block, 0, 0, 0, none),), 10, 10, *(*REST, ("a",)))
    with pytest.raises(ValueError, match="same name"):
        RequestReader((("a", 0, block, 0, 0, 0, none),), 10, 10, "|", (), ("a",), (0,), NOT_CALLED)
    with pytest.raises(ValueError, match="other fields"):
        RequestReader((), 10, 10, *(*REST, ("a",))).read_rank(RequestReader((), 10, 10, *REST), b"{}")
    several: list[Any] = [("", (), (), ()), ("|", (), ("a", "b", "c"), ()), ("|", (), ("b",), (1,))]
    for rest in several:
        with pytest.raises(ValueError, match=r"expected a separator|one of the fields"):
            RequestReader((("a", 0, block, 0, 0, 0, none),), 10, 10, *(*rest, NOT_CALLED))
    for sizes in ((0, 1), (1, -1), (1, 1 << 40)):
        with pytest.raises(ValueError, match="sizes must be"):
            RequestReader((), *sizes, *REST)
    reader = RequestReader((), 1, 1, *REST)
    for wrong in (lambda: reader.read_predict(bytearray(b"{}")), lambda: reader.read_rank(reader, b"{}")):  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            wrong()
