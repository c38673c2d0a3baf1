"""Requests and answers of the Open Inference Protocol (version 2, REST) ↔ those of ``/predict``.

Each field is an input tensor of its own, of one value a row, or of one row of tokens a row for a sequence. A field that is left out is
missing in every row; so is a ``null``, which the protocol does not forbid in JSON. In a sequence, nulls and empty strings are padding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from app.problems import Problem
from app.wire.binary_tensors import BinaryTensors
from app.wire.field_types import WireField

OUTPUT = "probability"
INTEGERS = ("INT64", "INT32", "INT16", "INT8", "UINT64", "UINT32", "UINT16", "UINT8")
FLOATS = ("FP64", "FP32", "FP16")
PARTS = {"id", "parameters", "inputs", "outputs"}
MAX_ID_CHARS = 256


class InferRequest(NamedTuple):
    """A request as ``/predict`` takes it, and what its answer repeats."""

    body: bytes
    id: str | None


def datatypes_of(field: WireField) -> tuple[str, ...]:
    """Return the datatypes that an input may have, the usual one first."""
    if field.kind == "numeric":
        return FLOATS + INTEGERS
    if field.kind == "time":
        return ("BYTES", *INTEGERS, *FLOATS)
    return {"integer": INTEGERS, "boolean": ("BOOL",)}.get(field.dtype or "string", ("BYTES",))


def describe_inputs(fields: Sequence[WireField]) -> list[dict[str, Any]]:
    """Return the metadata of the inputs; -1 stands for any size."""
    return [
        {"name": f.name, "datatype": datatypes_of(f)[0], "shape": [-1, -1] if f.kind == "sequence" else [-1]}
        for f in {field.name: field for field in fields}.values()  # both sides may read one time
    ]


def read_infer(body: bytes, fields: Mapping[str, WireField], json_bytes: int | None = None) -> InferRequest:
    """Return a request of the protocol as a columnar request of ``/predict``, which checks the values.

    Args:
        body: of the request.
        fields: of the model, by name.
        json_bytes: length of the JSON, where binary tensors follow it.

    Raises:
        Problem: ``invalid_input``.
    """
    try:
        request = orjson.loads(body[:json_bytes])
    except orjson.JSONDecodeError:
        raise Problem("invalid_input", "the body is not JSON") from None
    _check(
        isinstance(request, dict) and request.keys() <= PARTS, "expected 'inputs', and 'id', 'parameters' or 'outputs'"
    )
    given_id, inputs, outputs = (request.get(part) for part in ("id", "inputs", "outputs"))
    _check(given_id is None or (isinstance(given_id, str) and len(given_id) <= MAX_ID_CHARS), "'id' is no short string")
    _check(isinstance(inputs, list) and len(inputs) > 0, "'inputs' is no list of tensors")
    are_known = isinstance(outputs, list) and all(isinstance(o, dict) and o.get("name") == OUTPUT for o in outputs)
    _check(outputs is None or are_known, f"the only output is '{OUTPUT}'")
    columns: dict[str, list[Any]] = {}
    binary = BinaryTensors(memoryview(body)[len(body) if json_bytes is None else json_bytes :])
    for place, tensor in enumerate(inputs):
        is_tensor = isinstance(tensor, dict) and isinstance(tensor.get("name"), str)
        _check(is_tensor and tensor["name"] in fields, f"inputs[{place}] has no name of a field of the model")
        field = fields[tensor["name"]]
        _check(field.name not in columns, f"the input '{field.name}' is given twice")
        columns[field.name] = _column(tensor, field, binary)
    binary.finish()
    return InferRequest(orjson.dumps({"inputs": columns}), given_id)


def _column(tensor: Any, field: WireField, binary: BinaryTensors) -> list[Any]:
    """Return the values of an input, one for each row."""
    shape, data, datatype, parameters = (tensor.get(part) for part in ("shape", "data", "datatype", "parameters"))
    datatypes, is_sequence = datatypes_of(field), field.kind == "sequence"
    _check(datatype in datatypes, f"the input '{field.name}' is {datatypes[0]}")
    are_sizes = isinstance(shape, list) and all(type(size) is int and size >= 1 for size in shape)
    is_right = are_sizes and (len(shape) == 2 if is_sequence else shape[1:] in ([], [1]))
    _check(is_right, f"the shape of '{field.name}' is [rows{', tokens' if is_sequence else ''}]")
    if isinstance(parameters, dict) and "binary_data_size" in parameters:
        data = binary.take(parameters["binary_data_size"], datatype)
    _check(isinstance(data, list), f"the input '{field.name}' has no list 'data'")
    flat = [value for item in data for value in (item if isinstance(item, list) else (item,))]
    num_rows, width = shape[0], shape[1] if is_sequence else 1
    _check(len(flat) == num_rows * width, f"'data' of '{field.name}' does not fill its shape")
    if not is_sequence:
        return flat
    return [[v for v in flat[i * width : (i + 1) * width] if v is not None and v != ""] for i in range(num_rows)]


def infer_answer(answer: bytes, request: InferRequest, model_name: str) -> bytes:
    """Return an answer of ``/predict`` as one of the protocol; what was missing or unseen is counted in ``parameters``."""
    found = orjson.loads(answer)
    probabilities = found["predictions"]
    counted = {f"{what}.{name}": count for what in ("missing", "unseen") for name, count in found.get(what, {}).items()}
    tensor = {"name": OUTPUT, "datatype": "FP64", "shape": [len(probabilities)], "data": probabilities}
    answered: dict[str, Any] = {"model_name": model_name, "model_version": found["model_version"], "outputs": [tensor]}
    if request.id is not None:
        answered["id"] = request.id
    if counted:
        answered["parameters"] = counted
    return orjson.dumps(answered)


def _check(holds: bool, expected: str) -> None:
    if not holds:
        raise Problem("invalid_input", expected)
