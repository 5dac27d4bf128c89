"""Error codes as HTTP statuses: the one place where the two meet."""

import msgspec

from treadle.records.errors import TreadleError

#: Covers `treadle.records.errors.CODES` exactly; a test says so.
STATUS: dict[str, int] = {
    "bad_request": 400,
    "bad_definition": 422,
    "bad_data": 422,
    "unauthenticated": 401,
    "denied": 403,
    "not_found": 404,
    "conflict": 409,
    "busy": 423,
    "newer_schema": 503,
    "corrupt": 500,
    "nondeterministic": 409,
    "step_failed": 422,
    "cancelled": 409,
    "timed_out": 504,
    "unavailable": 503,
    "storage_full": 507,
    "missing_extra": 501,
    "not_implemented": 501,
    "internal": 500,
}


def encode(error: TreadleError, status: int | None = None) -> tuple[int, bytes]:
    """Status and JSON body of an error; `status` where HTTP has a finer word (405, 413, 415)."""
    return status or STATUS[error.code], msgspec.json.encode(error.body())
