"""The Open Inference Protocol (v2, JSON), translated: tensors to columns, an answer to tensors, a signature to metadata.

Each input column is a tensor named like it, shape [rows] or [rows, 1]. A model whose inputs from the request are all numbers also takes
one tensor [rows, columns], columns in the order of its metadata. Answers hold the scores under the signature's output name and the
ids of the predictions in the log as `prediction_id`. Pure.
"""

from typing import Any

import msgspec
from msgspec import Struct

from treadle.gateway.native import Parsed
from treadle.records.errors import TreadleError
from treadle.records.models import Signature
from treadle.serving.generation import Model, Served
from treadle.serving.service import Answer

_DATATYPES = {"string": "BYTES", "int64": "INT64", "float64": "FP64", "bool": "BOOL", "datetime": "BYTES", "date": "BYTES"}
_NUMBERS = frozenset({f"{kind}{bits}" for kind in ("INT", "UINT") for bits in (8, 16, 32, 64)} | {"FP16", "FP32", "FP64"})


class _Tensor(Struct):
    name: str
    shape: list[int]
    datatype: str
    data: list[Any]
    parameters: dict[str, Any] = {}


class _Wanted(Struct):
    name: str
    parameters: dict[str, Any] = {}


class _Body(Struct):
    inputs: list[_Tensor]
    id: str = ""
    parameters: dict[str, Any] = {}
    outputs: list[_Wanted] = []


_decode = msgspec.json.Decoder(_Body).decode
_encode = msgspec.json.Encoder().encode


class Request(Struct):
    """A request as `serving` takes it, and what its answer must repeat."""

    parsed: Parsed
    id: str
    outputs: list[str]


def parse(body: bytes, served: Served) -> Request:
    """The columns of an inference request.

    Raises:
        TreadleError: `bad_request`.
    """
    try:
        request = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TreadleError(
            f"The request body cannot be read: {error}.",
            remedy='Send JSON like {"inputs": [{"name": "carrier", "shape": [1], "datatype": "BYTES", "data": ["UA"]}]}; binary tensors '
            "are not spoken (tritonclient: binary_data=False).",
        ) from error
    times = request.parameters.get("event_time")
    if times is not None and type(times) is not int:
        raise TreadleError(
            "The parameter event_time must be microseconds since 1970 UTC, a whole number.",
            remedy='Send "parameters": {"event_time": 1359720000000000}.',
            details={"column": "event_time", "expected": "a whole number", "given": str(times)[:60]},
        )
    columns: dict[str, list[Any]] = {}
    for tensor in request.inputs:
        columns.update(_tensor(tensor, served))
    return Request(Parsed(columns, times), request.id, [wanted.name for wanted in request.outputs])


def answer(request: Request, served: Served, given: Answer) -> bytes:
    """The inference response."""
    rows = len(given.predictions)
    model = _model(served)
    outputs: list[dict[str, Any]] = [
        {"name": model.signature.output, "shape": [rows], "datatype": "FP64", "data": given.predictions},
        {"name": "prediction_id", "shape": [rows], "datatype": "BYTES", "data": given.ids},
        {"name": "variant", "shape": [rows], "datatype": "BYTES", "data": given.variant},
        {"name": "model_version", "shape": [rows], "datatype": "INT64", "data": given.model_version},
    ]
    if request.outputs:
        unknown = sorted(set(request.outputs) - {output["name"] for output in outputs})
        if unknown:
            raise TreadleError(f"There is no output {unknown[0]!r}.", remedy=f"Ask for some of: {', '.join(o['name'] for o in outputs)}.")
        outputs = [output for output in outputs if output["name"] in request.outputs]
    body: dict[str, Any] = {
        "model_name": served.name,
        "model_version": str(given.model_version[0]),
        "outputs": outputs,
        "parameters": {"generation": given.generation},
    }
    if request.id:
        body["id"] = request.id
    return _encode(body)


def refusal(error: TreadleError) -> bytes:
    """An error as the protocol has it: one sentence under `error`, which its clients show; the parts of an `ErrorBody` beside it."""
    return _encode({"error": f"{error.what} {error.remedy}", **msgspec.to_builtins(error.body())})


def metadata(served: Served) -> dict[str, Any]:
    """Model metadata: what the champion takes and gives."""
    model = _model(served)
    versions = {str(m.variant.model_version) for m in (served.champion, served.challenger) if m is not None}
    inputs = [
        {"name": c.name, "datatype": _DATATYPES[c.dtype], "shape": [-1], "parameters": {"nullable": c.nullable, "unknown": c.unknown}}
        for c in model.signature.inputs
        if c.origin == "request"
    ]
    keys = {key: "BYTES" for read in model.reads for key in read.entity} | {c.name: _DATATYPES[c.dtype] for c in model.signature.keys}
    if served.endpoint.unit:
        keys.setdefault(served.endpoint.unit, "BYTES")
    named = {column["name"] for column in inputs}
    inputs += [{"name": n, "datatype": t, "shape": [-1], "parameters": {"key": True}} for n, t in keys.items() if n not in named]
    return {
        "name": served.name,
        "versions": sorted(versions, key=int),
        "platform": f"treadle_{model.bundle.flavor}",
        "inputs": inputs,
        "outputs": [
            {"name": model.signature.output, "datatype": "FP64", "shape": [-1]},
            {"name": "prediction_id", "datatype": "BYTES", "shape": [-1]},
            {"name": "variant", "datatype": "BYTES", "shape": [-1]},
            {"name": "model_version", "datatype": "INT64", "shape": [-1]},
        ],
    }


def _tensor(tensor: _Tensor, served: Served) -> dict[str, list[Any]]:
    if tensor.datatype not in _NUMBERS and tensor.datatype not in ("BYTES", "BOOL"):
        raise _wrong(tensor, "a datatype of the protocol (BYTES, BOOL, INT64, FP64, …)", tensor.datatype)
    data = tensor.data
    width = tensor.shape[1] if len(tensor.shape) == 2 else 1
    if len(tensor.shape) not in (1, 2) or min(tensor.shape) < 0:
        raise _wrong(tensor, "shape [rows] or [rows, columns]", f"shape {tensor.shape}")
    if data and isinstance(data[0], list):
        if any(not isinstance(row, list) or len(row) != width for row in data):
            raise _wrong(tensor, f"rows of {width} values", "rows of other lengths")
        data = [value for row in data for value in row]
    if len(data) != tensor.shape[0] * width:
        raise _wrong(tensor, f"{tensor.shape[0] * width} values", f"{len(data)} values")
    if width == 1:
        return {tensor.name: data}
    names = _numeric_inputs(_model(served).signature)
    if names is None or len(names) != width:
        raise _wrong(tensor, "one tensor a column", f"one tensor of {width} columns")
    return {name: data[place::width] for place, name in enumerate(names)}


def _numeric_inputs(signature: Signature) -> list[str] | None:
    columns = [c for c in signature.inputs if c.origin == "request"]
    return None if any(c.dtype == "string" for c in columns) else [c.name for c in columns]


def _model(served: Served) -> Model:
    if served.champion is None:
        raise TreadleError(
            f"The endpoint {served.name} has no released model yet.",
            remedy=f"Release one: treadle release start {served.name} VERSION",
            code="unavailable",
        )
    return served.champion


def _wrong(tensor: _Tensor, expected: str, given: str) -> TreadleError:
    return TreadleError(
        f"The tensor {tensor.name}: expected {expected}, given {given}.",
        remedy="GET /v2/models/NAME tells every input's name, datatype and shape.",
        details={"column": tensor.name, "expected": expected, "given": given},
    )
