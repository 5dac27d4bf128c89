"""Errors in the protocol's form: `{"error_code", "message"}` and the HTTP status that clients expect with it.

Clients retry 429 and 5xx for minutes, so what the caller got wrong is never one of these.
"""

import re

import msgspec

from treadle.api.mlflow.table import ProtocolError
from treadle.records.errors import TreadleError

#: HTTP status by error code. `INVALID_STATE` and `INTERNAL_ERROR` are 500 in MLflow's own server; a state is the caller's to know.
STATUS: dict[str, int] = {
    "INVALID_PARAMETER_VALUE": 400,
    "RESOURCE_ALREADY_EXISTS": 400,
    "BAD_REQUEST": 400,
    "INVALID_STATE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "RESOURCE_DOES_NOT_EXIST": 404,
    "ENDPOINT_NOT_FOUND": 404,
    "NOT_FOUND": 404,
    "METHOD_NOT_ALLOWED": 405,
    "RESOURCE_CONFLICT": 409,
    "REQUEST_TOO_LARGE": 413,
    "INTERNAL_ERROR": 500,
    "NOT_IMPLEMENTED": 501,
    "TEMPORARILY_UNAVAILABLE": 503,
}

#: The protocol's code of each code of ours.
CODES: dict[str, str] = {
    "bad_request": "INVALID_PARAMETER_VALUE",
    "bad_definition": "INVALID_PARAMETER_VALUE",
    "bad_data": "INVALID_PARAMETER_VALUE",
    "unauthenticated": "UNAUTHENTICATED",
    "denied": "PERMISSION_DENIED",
    "not_found": "RESOURCE_DOES_NOT_EXIST",
    "conflict": "INVALID_PARAMETER_VALUE",
    "busy": "TEMPORARILY_UNAVAILABLE",
    "newer_schema": "TEMPORARILY_UNAVAILABLE",
    "corrupt": "INTERNAL_ERROR",
    "nondeterministic": "INVALID_PARAMETER_VALUE",
    "step_failed": "INVALID_PARAMETER_VALUE",
    "cancelled": "BAD_REQUEST",
    "timed_out": "TEMPORARILY_UNAVAILABLE",
    "unavailable": "TEMPORARILY_UNAVAILABLE",
    "storage_full": "INTERNAL_ERROR",
    "missing_extra": "NOT_IMPLEMENTED",
    "not_implemented": "NOT_IMPLEMENTED",
    "internal": "INTERNAL_ERROR",
}

#: Statuses that differ from the code's own.
_FINER = {"storage_full": 507}

#: The literal texts that clients know, for errors that say in `details` what of: `{"missing": "run", "id": …}`, `{"binned": "run", …}`.
MISSING = {
    "run": "Run with id={id} not found",
    "experiment": "No Experiment with id={id} exists",
    "logged_model": "Logged model with ID '{id}' not found.",
    "webhook": "Webhook with ID {id} not found.",
}
#: What a client is told of an id that is not there and that its own server could not have made.
NO_EXPERIMENT = "Invalid experiment ID '{id}'. Experiment ID must be a valid integer."
_NUMBER = re.compile(r"-?\d+")
TAG = {
    "run": "No tag with name: {name} in run with id {id}",
    "experiment": "No tag with name: {name} in experiment with id {id}",
    "logged_model": "No tag with key '{name}' found for model with ID '{id}'.",
}
BINNED = "The {binned} {id} must be in the 'active' state. Current state is deleted."


def translate(error: TreadleError) -> ProtocolError:
    """An error of ours in the protocol's words; our remedy stands behind where the words are ours."""
    told = error.details
    if told.get("missing") == "experiment" and not _NUMBER.fullmatch(str(told.get("id", ""))):
        return ProtocolError("INVALID_PARAMETER_VALUE", NO_EXPERIMENT.format(**told))
    if error.code == "not_found" and told.get("missing") in MISSING:
        return ProtocolError("RESOURCE_DOES_NOT_EXIST", MISSING[told["missing"]].format(id=told.get("id", "")))
    if told.get("missing") == "tag" and told.get("thing") in TAG:
        return ProtocolError("RESOURCE_DOES_NOT_EXIST", TAG[told["thing"]].format(**told))
    if told.get("binned"):
        return ProtocolError("INVALID_PARAMETER_VALUE", BINNED.format(**told))
    if told.get("limit"):
        return ProtocolError("INVALID_PARAMETER_VALUE", f"{error.what} {error.remedy}", 413)
    literal = error.what.startswith("Invalid ") or told.get("field") in ("filter", "page")  # the protocol's own text, word for word
    return ProtocolError(
        CODES[error.code], error.what if literal else f"{error.what} {error.remedy}", told.get("status") or _FINER.get(error.code)
    )


def encode(error: ProtocolError) -> tuple[int, bytes]:
    """Status and body."""
    status = error.status or STATUS.get(error.code, 400)
    return status, msgspec.json.encode({"error_code": error.code, "message": error.message})
