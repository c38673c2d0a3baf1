"""What the compiled reader takes, the wire and the encoder take too, with the same rows, weights and counts."""

from __future__ import annotations

import json
import math
import os
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from app.problems import Problem
from app.wire.field_types import MAX_SEQUENCE, MAX_TOKEN_CHARS
from app.wire.predict_request import Wire
from models.artifact.artifact import Artifact, load_artifact
from models.features.encoder import FeatureEncoder
from models.features.request_reader import RowReader
from models.features.vocabulary import Vocabulary
from models.schema.feature_schema import FeatureSchema, FieldSpec, FittedField, FittedSchema
from tests.hostile.corpus import BODIES, GOOD, INTEGERS, NUMBERS, SEQUENCES, TOKENS
from tests.making import make_artifact

MAX_ROWS = 50
FIELDS = {"user_id": INTEGERS, "ad_id": TOKENS, "price": NUMBERS, "clicked_ads": SEQUENCES}
LONGEST_TOKEN_BYTES = 240

if not os.environ.get("CI"):  # there it must be
    pytest.importorskip("models._native", reason="built without a C compiler")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return load_artifact(make_artifact(tmp_path_factory.mktemp("artifacts")))


@pytest.fixture(scope="module")
def reader(artifact: Artifact) -> RowReader:
    return make_reader(artifact.encoder)


@pytest.fixture(scope="module")
def wire(artifact: Artifact) -> Wire:
    return Wire(artifact.schema, MAX_ROWS)


def make_reader(encoder: FeatureEncoder) -> RowReader:
    return RowReader(encoder, MAX_ROWS, MAX_TOKEN_CHARS, MAX_SEQUENCE)


def compare(reader: RowReader, wire: Wire, encoder: FeatureEncoder, body: bytes) -> bool:
    """Return whether the reader took a body; if so it must be right."""
    found = reader.read(body)
    if found is None:
        return False
    columns = wire.validate(body)  # raises where it should not have been taken
    assert columns.unknown_fields == {}
    batch = encoder.encode(columns.values)
    np.testing.assert_array_equal(found.batch.ids, batch.ids)
    np.testing.assert_array_equal(found.batch.offsets, batch.offsets)
    np.testing.assert_array_equal(found.batch.weights, batch.weights)
    names = [field.spec.name for field in encoder.fields]
    for counts, expected in zip((found.missing, found.unseen), encoder.count_special(batch), strict=True):
        assert dict(counts) == {names[i]: n for i, n in expected.items()}
    return True


scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=3)
tokens = st.sampled_from(["ad1", "", "x" * 240, "x" * 241, "x" * 257, "é", "\ud800", "é" * 130]) | scalars
values = tokens | st.lists(tokens, max_size=7)
rows = st.dictionaries(st.sampled_from(["user_id", "site", "ad_id", "price", "clicked_ads", "colour"]), values)
known_tokens = st.sampled_from([f"ad{i}" for i in range(50)])
good_rows = st.fixed_dictionaries(
    {},
    optional={
        "user_id": st.integers(0, 60) | st.integers(-(2**63), 2**63 - 1) | st.none(),
        "site": st.text(max_size=5) | st.sampled_from([f"site-{i}.example" for i in range(12)]) | st.none(),
        "ad_id": known_tokens | st.text(max_size=5) | st.none(),
        "price": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**6), 10**6) | st.none(),
        "clicked_ads": st.lists(known_tokens | st.text(max_size=3), max_size=8) | st.none(),
    },
)


@given(st.lists(rows, max_size=4))
def test_any_rows_that_are_taken_are_right(
    reader: RowReader, wire: Wire, artifact: Artifact, instances: list[dict[str, Any]]
) -> None:
    compare(reader, wire, artifact.encoder, json.dumps({"instances": instances}).encode())


@given(st.lists(good_rows, min_size=1, max_size=30), st.sampled_from([None, 1]), st.booleans())
def test_good_rows_and_columns_are_taken(
    reader: RowReader,
    wire: Wire,
    artifact: Artifact,
    instances: list[dict[str, Any]],
    indent: int | None,
    ensure_ascii: bool,
) -> None:
    columns = {name: [row.get(name) for row in instances] for row in instances for name in row}
    for request in ({"instances": instances}, {"inputs": columns}):
        body = json.dumps(request, indent=indent, ensure_ascii=ensure_ascii).encode(errors="surrogatepass")
        is_text = b"\\ud" not in body and b"\xed" not in body  # lone surrogates are no text; pairs are tested below
        if is_text and columns:
            assert compare(reader, wire, artifact.encoder, body)


@given(
    st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["%r", "%.0f", "%.3e", "%.25f", "%.17g", "%.40e"])
)
def test_numbers_fall_into_the_bin_of_the_nearest_double(
    reader: RowReader, wire: Wire, artifact: Artifact, number: float, form: str
) -> None:
    literal = form % number
    taken = compare(reader, wire, artifact.encoder, b'{"instances": [{"price": %s}]}' % literal.encode())
    assert taken == (len(literal) < 64 and math.isfinite(float(literal)))


@pytest.mark.parametrize(
    "place", [b'{"instances": [{"site": "a", %b}]}', b'{"instances": [{}, {%b}, {"ad_id": "ad1"}]}']
)
def test_values_at_the_edge_are_right_or_left_to_the_wire(
    reader: RowReader, wire: Wire, artifact: Artifact, place: bytes
) -> None:
    for field, cases in FIELDS.items():
        for case in cases:
            body = place % (b'"%b": %b' % (field.encode(), case.text))
            assert not (compare(reader, wire, artifact.encoder, body) and case.status != 200), case.name


def test_requests_at_the_edge_are_right_or_left_to_the_wire(reader: RowReader, wire: Wire, artifact: Artifact) -> None:
    for case in BODIES:
        assert not (compare(reader, wire, artifact.encoder, case.text) and case.status != 200), case.name
    for name, body in GOOD.items():
        if b"colour" not in body:
            compare(reader, wire, artifact.encoder, body)
        assert reader.read(body[:-1]) is None, name
        assert reader.read(body + b"\0") is None, name
    for num_rows in (1, MAX_ROWS, MAX_ROWS + 1):
        body = json.dumps({"instances": [{}] * num_rows}).encode()
        assert compare(reader, wire, artifact.encoder, body) == (num_rows <= MAX_ROWS)


@pytest.mark.parametrize(
    ("text", "is_taken"),
    [
        ('{"instances": [{"site": "\\ud83d\\ude00\\u00e9\\n\\/"}]}', True),
        ('{"instances": [{"site": "\\ud83d"}]}', False),
        ('{"instances": [{"site": "\\ud83dx"}]}', False),
        ('{"instances": [{"site": "\\ude00\\ud83d"}]}', False),
        ('{"instances": [{"site": "\\x"}]}', False),
        ('{"instances": [{"site": "\\u12g4"}]}', False),
        ('{"instances": [{"site": "a\tb"}]}', False),
        ('{"instances": [{"site": "a", "site": "b"}]}', False),
        ('{"instances": [{"s\\u0069te": "a"}]}', False),
        ('{"inputs": {"site": ["a"], "site": ["b"]}}', False),
        ('{"inputs": {"site": ["a"], "ad_id": ["b", "c"]}}', False),
        ('{"instances": [{"clicked_ads": ["\\u0061d1", "ad2", null]}]}', False),
        (
            '{"instances": [{"clicked_ads": ["\\u0061d1", "ad2"]}, {"clicked_ads": ["ad\\u0033", "ad4"], "site": "\\u0041"}]}',
            True,
        ),
        ('{"instances": [{"user_id": -0}, {"user_id": 9223372036854775807}, {"user_id": -9223372036854775808}]}', True),
        ('{"instances": [{"user_id": 9223372036854775808}]}', False),
        ('{"instances": [{"user_id": 07}]}', False),
        ('{"instances": [{"user_id": 7.0}]}', False),
        ('{"instances": [{"price": -0.0}, {"price": 1e308}, {"price": 5e-324}, {"price": 1E+2}]}', True),
        ('{"instances": [{"price": 1e309}]}', False),
        ('{"instances": [{"price": .5}]}', False),
        ('{"instances": [{"price": 5.}]}', False),
        ('{"instances": [{"price": 1e}]}', False),
        ('{"instances": [{"price": 01}]}', False),
        (' \r\n\t{ "instances" : [ { "price" : 1 , "site" : "a" } , { } ] } \n', True),
        ('{"instances": [{"price": 1,}]}', False),
        ('{"instances": [{}],}', False),
        ('{"instances": [{}]} {}', False),
    ],
)
def test_forms_of_json(reader: RowReader, wire: Wire, artifact: Artifact, text: str, is_taken: bool) -> None:
    assert compare(reader, wire, artifact.encoder, text.encode()) == is_taken


@given(st.binary(max_size=300))
def test_any_bytes_are_taken_rightly_or_left(reader: RowReader, wire: Wire, artifact: Artifact, body: bytes) -> None:
    compare(reader, wire, artifact.encoder, body)


@settings(max_examples=300)
@given(st.data())
def test_good_bytes_with_a_fault_are_taken_rightly_or_left(
    reader: RowReader, wire: Wire, artifact: Artifact, data: st.DataObject
) -> None:
    instances = data.draw(st.lists(good_rows, min_size=1, max_size=3))
    body = bytearray(json.dumps({"instances": instances}, ensure_ascii=False).encode(errors="replace"))
    at = data.draw(st.integers(0, len(body) - 1))
    body[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        compare(reader, wire, artifact.encoder, bytes(body))
    except Problem:
        pytest.fail(f"taken, but it should be refused: {bytes(body)!r}")


def test_tokens_of_every_length_are_found(artifact: Artifact) -> None:
    tokens = [("né" * n)[:n] for n in range(1, 161)] + ["y" * n for n in range(LONGEST_TOKEN_BYTES + 10)]
    tokens = list(dict.fromkeys(tokens))
    fields = (FieldSpec(name="a", kind="categorical"), FieldSpec(name="b", kind="categorical", buckets=97))
    fitted = (FittedField(dtype="string", example="x"),) * 2
    schema = FittedSchema(
        features=FeatureSchema(label="click", fields=fields), fitted=fitted, num_tokens={"a": len(tokens), "b": 97}
    )
    encoder = FeatureEncoder(schema, {"a": Vocabulary.from_tokens(tokens)})
    one, wire = make_reader(encoder), Wire(schema, MAX_ROWS)
    for token in tokens:
        for ensure_ascii in (False, True):
            body = json.dumps({"instances": [{"a": token, "b": token}, {"a": token + "?"}]}, ensure_ascii=ensure_ascii)
            assert compare(one, wire, encoder, body.encode()) == (len(token.encode()) < LONGEST_TOKEN_BYTES)


def test_a_vocabulary_whose_arrays_leave_their_text_finds_nothing(artifact: Artifact) -> None:
    encoder = FeatureEncoder(artifact.schema, artifact.encoder.vocabularies)
    v = encoder.vocabularies["ad_id"]
    body = b'{"instances": [{"ad_id": "ad1"}]}'
    assert make_reader(encoder).read(body) is not None
    for name in ("positions", "ends"):
        arrays = {**v.arrays, name: v.arrays[name] + 10**12}
        encoder.vocabularies = {**encoder.vocabularies, "ad_id": Vocabulary(arrays)}
        found = make_reader(encoder).read(body)
        assert found is not None
        assert found.unseen == {"ad_id": 1}


def test_a_name_with_letters_of_any_kind() -> None:
    name = "prix é 价"
    schema = FittedSchema(
        features=FeatureSchema(label="click", fields=(FieldSpec(name=name, kind="categorical"),)),
        fitted=(FittedField(dtype="string", example="x"),),
        num_tokens={name: 1},
    )
    encoder = FeatureEncoder(schema, {name: Vocabulary.from_tokens(["x"])})
    body = json.dumps({"inputs": {name: ["x", "y", None]}}, ensure_ascii=False).encode()
    assert compare(make_reader(encoder), Wire(schema, MAX_ROWS), encoder, body)


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb"])
def test_names_that_json_writes_in_several_ways_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="pattern"):
        FieldSpec(name=name, kind="categorical")


def test_without_the_compiled_part_every_body_is_left_to_the_wire(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.features.request_reader.CompiledReader", None)
    assert make_reader(artifact.encoder).read(GOOD[next(iter(GOOD))]) is None


def test_what_is_not_described_whole_reads_nothing() -> None:
    from models._native import RowReader as Compiled

    empty = Compiled(2, 10, 10, 10)
    assert empty.read(b'{"instances": [{}]}') is None
    with pytest.raises(ValueError, match="no such field or block"):
        empty.add_field("a", 0, 0, 0, 0, np.empty(0))
    with pytest.raises(ValueError, match="differ in length"):
        empty.add_vocabulary(
            np.zeros(2, np.uint64), np.zeros(1, np.int64), np.zeros(2, np.int64), np.zeros(1, np.uint8)
        )
    for sizes in ((0, 1, 1, 1), (1, 0, 1, 1), (1, 1, -1, 1), (1, 1, 1, 1 << 40)):
        with pytest.raises(ValueError, match="sizes must be"):
            Compiled(*sizes)
