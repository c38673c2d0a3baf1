"""Tensors of the Open Inference Protocol are the columns of ``/predict``; what is none is refused, never a defect."""

import json
from typing import Any

import hypothesis.strategies as st
import numpy as np
import orjson
import pytest
from hypothesis import given, settings

from app.problems import Problem
from app.wire.binary_tensors import BinaryTensors
from app.wire.field_types import WireField
from app.wire.open_inference import InferRequest, infer_answer, read_infer

FIELDS = {
    field.name: field
    for field in (
        WireField("user_id", "categorical", "context", "integer", 1, "|"),
        WireField("ads", "sequence", "context", "string", 5, "|"),
        WireField("mobile", "categorical", "context", "boolean", 1, "|"),
        WireField("price", "numeric", "candidate", None, 1, "|"),
    )
}
USER = {"name": "user_id", "datatype": "INT64", "shape": [2], "data": [7, None]}
ADS = {"name": "ads", "datatype": "BYTES", "shape": [2, 2], "data": ["a", "", None, "b"]}
PRICE = {"name": "price", "datatype": "FP32", "shape": [2, 1], "data": [[0.1], [2]]}
MOBILE = {"name": "mobile", "datatype": "BOOL", "shape": [2], "data": [True, False]}
WRONG: list[tuple[Any, str]] = [
    ([], "expected 'inputs'"),
    ({"inputs": [USER], "raw": 1}, "expected 'inputs'"),
    ({"inputs": []}, "'inputs' is no list of tensors"),
    ({"inputs": [USER], "id": 3}, "'id' is no short string"),
    ({"inputs": [USER], "outputs": [{"name": "s3cr3t"}]}, "the only output is 'probability'"),
    ({"inputs": [{**USER, "name": "s3cr3t"}]}, "inputs[0] has no name of a field of the model"),
    ({"inputs": [USER, 1]}, "inputs[1] has no name of a field of the model"),
    ({"inputs": [USER, USER]}, "the input 'user_id' is given twice"),
    ({"inputs": [{**USER, "datatype": "BYTES"}]}, "the input 'user_id' is INT64"),
    ({"inputs": [{**USER, "datatype": ["INT64"]}]}, "the input 'user_id' is INT64"),
    ({"inputs": [{**USER, "shape": [1, 2]}]}, "the shape of 'user_id' is [rows]"),
    ({"inputs": [{**USER, "shape": [-2]}]}, "the shape of 'user_id' is [rows]"),
    ({"inputs": [{**ADS, "shape": [2**40, 0], "data": []}]}, "the shape of 'ads' is [rows, tokens]"),
    ({"inputs": [{**ADS, "shape": [4]}]}, "the shape of 'ads' is [rows, tokens]"),
    ({"inputs": [{**USER, "shape": [3]}]}, "'data' of 'user_id' does not fill its shape"),
    ({"inputs": [{k: v for k, v in USER.items() if k != "data"}]}, "the input 'user_id' has no list 'data'"),
]


def test_inputs_become_columns_and_padding_goes() -> None:
    body = json.dumps({"id": "q", "inputs": [USER, ADS, PRICE], "parameters": {"binary_data_output": True}}).encode()
    request = read_infer(body, FIELDS)
    columns = {"user_id": [7, None], "ads": [["a"], ["b"]], "price": [0.1, 2]}
    assert (orjson.loads(request.body), request.id) == ({"inputs": columns}, "q")


@pytest.mark.parametrize(("request_", "said"), WRONG, ids=[said for _, said in WRONG])
def test_what_is_no_request_is_refused_without_the_input(request_: Any, said: str) -> None:
    with pytest.raises(Problem) as refused:
        read_infer(json.dumps(request_).encode(), FIELDS)
    assert refused.value.code == "invalid_input"
    assert (refused.value.detail or "").startswith(said)
    assert "s3cr3t" not in (refused.value.detail or "")


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.sampled_from(["a", "user_id", "INT64", "BYTES"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*USER, "inputs"]), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150)
@given(values, st.sampled_from(["inputs", "tensor", "whole"]))
def test_any_json_is_read_or_refused(value: Any, where: str) -> None:
    request = {"whole": value, "inputs": {"inputs": value}, "tensor": {"inputs": [value]}}[where]
    try:
        found = read_infer(json.dumps(request).encode(), FIELDS)
    except Problem as problem:
        assert problem.code == "invalid_input"
    else:
        assert isinstance(found, InferRequest)


def test_an_answer_keeps_every_bit_and_counts_what_was_missing() -> None:
    answer = orjson.dumps({"predictions": [0.1, 1 / 3], "model_version": "v", "missing": {"ads": 2}})
    found = orjson.loads(infer_answer(answer, InferRequest(b"", "q"), "ads"))
    assert found == {
        "model_name": "ads",
        "model_version": "v",
        "id": "q",
        "parameters": {"missing.ads": 2},
        "outputs": [{"name": "probability", "datatype": "FP64", "shape": [2], "data": [0.1, 1 / 3]}],
    }


def binary(*tensors: tuple[dict[str, Any], bytes]) -> tuple[bytes, int]:
    inputs = [
        {**{k: v for k, v in tensor.items() if k != "data"}, "parameters": {"binary_data_size": len(raw)}}
        for tensor, raw in tensors
    ]
    text = json.dumps({"inputs": inputs}).encode()
    return text + b"".join(raw for _, raw in tensors), len(text)


TEXTS = b"".join(len(text).to_bytes(4, "little") + text for text in (b"a", b"", b"", "é".encode()))


def test_binary_tensors_follow_the_json() -> None:
    user = (USER, np.array([7, -1], "<i8").tobytes())
    body, json_bytes = binary(user, (ADS, TEXTS), (PRICE, np.array([0.5, np.nan], "<f4").tobytes()), (MOBILE, b"\1\0"))
    columns = {"user_id": [7, -1], "ads": [["a"], ["é"]], "price": [0.5, None], "mobile": [True, False]}
    assert orjson.loads(read_infer(body, FIELDS, json_bytes).body) == {"inputs": columns}


@pytest.mark.parametrize(
    ("tensor", "raw", "said"),
    [
        (USER, b"1234567", "a binary tensor does not hold elements of its datatype"),
        (USER, b"12345678", "'data' of 'user_id' does not fill its shape"),
        (PRICE, np.array([np.inf, 1], "<f4").tobytes(), "a binary tensor holds an infinite number"),
        (ADS, TEXTS[:-1], "a text of a binary tensor is longer than the tensor"),
        (ADS, b"\1\0\0\0\xff", "a text of a binary tensor is not UTF-8"),
        (ADS, TEXTS + b"\xff\xff\xff\xff", "a text of a binary tensor is longer than the tensor"),
    ],
)
def test_bytes_that_are_no_tensor_are_refused(tensor: dict[str, Any], raw: bytes, said: str) -> None:
    body, json_bytes = binary((tensor, raw))
    with pytest.raises(Problem) as refused:
        read_infer(body, FIELDS, json_bytes)
    assert refused.value.detail == said
    for changed in (body + b"x", body[:-1]):
        with pytest.raises(Problem):
            read_infer(changed, FIELDS, json_bytes)


@given(st.binary(max_size=40), st.integers(0, 40))
def test_any_bytes_of_a_text_tensor_are_read_or_refused(raw: bytes, size: int) -> None:
    try:
        assert all(isinstance(text, str) for text in BinaryTensors(memoryview(raw)).take(size, "BYTES"))
    except Problem as problem:
        assert problem.code == "invalid_input"
