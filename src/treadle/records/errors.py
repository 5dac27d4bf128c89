"""Errors that name what happened, why, and what to do about it.

Every error a user can meet is a `TreadleError`: `what` says what is wrong and why in one sentence, `remedy` is a command or a
call to copy, `code` is a stable word that a program can act on. The faces translate `code` into an HTTP status or an exit code
in one table each; nothing below them knows of HTTP.
"""

from typing import Any

from msgspec import Struct

#: Every code there is. A face that maps codes to statuses must cover exactly these.
CODES = (
    "bad_request",  # the request itself is wrong: a type, a value, a missing field
    "bad_definition",  # the project's definitions cannot be read or contradict each other
    "bad_data",  # a data file or table is unreadable, empty or breaks its schema
    "unauthenticated",  # no or unknown credentials
    "denied",  # known actor, missing permission
    "not_found",
    "conflict",  # the id exists with other content, or the state does not allow the move
    "busy",  # somebody else holds the thing: port, home, lease
    "newer_schema",  # the database was written by a newer release
    "corrupt",  # content does not match its digest, chain or checksum
    "nondeterministic",  # a pipeline body took another path than its journal
    "step_failed",
    "cancelled",
    "timed_out",
    "unavailable",  # a server or part that is needed does not answer
    "storage_full",
    "missing_extra",  # an optional package is not installed
    "not_implemented",
    "internal",
)


class TreadleError(Exception):
    """What went wrong, and the remedy.

    Args:
        what: one sentence naming what is wrong and why.
        remedy: a command or call to copy, or what to look at.
        code: one of `CODES`.
        details: small JSON-able facts for programs (column, expected, given, …).
    """

    def __init__(self, what: str, *, remedy: str, code: str = "bad_request", details: dict[str, Any] | None = None):
        super().__init__(what)
        if code not in CODES:
            raise ValueError(f"unknown error code {code!r}")
        self.what = what
        self.remedy = remedy
        self.code = code
        self.details = details or {}

    def __reduce__(self):
        return (_rebuild, (self.what, self.remedy, self.code, self.details))

    def body(self) -> "ErrorBody":
        """The error as a record, the same for every transport."""
        return ErrorBody(code=self.code, what=self.what, remedy=self.remedy, details=self.details)


def _rebuild(what: str, remedy: str, code: str, details: dict[str, Any]) -> TreadleError:
    return TreadleError(what, remedy=remedy, code=code, details=details)


class ErrorBody(Struct, frozen=True, kw_only=True):
    """How an error travels: the JSON body of a 4xx or 5xx answer."""

    code: str
    what: str
    remedy: str
    details: dict[str, Any] = {}

    def error(self) -> TreadleError:
        """The exception this body stands for."""
        code = self.code if self.code in CODES else "internal"
        return TreadleError(self.what, remedy=self.remedy, code=code, details=self.details)
