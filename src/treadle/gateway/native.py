"""Treadle's own request body: rows as records, or columns, or entity keys; with event time and ids.

    {"rows": [{"carrier": "UA", "origin": "EWR"}, …], "event_time": "2013-02-01T12:00:00Z", "ids": ["f1", …]}
    {"columns": {"carrier": ["UA", …], "origin": ["EWR", …]}, "event_time": 1359720000000000}
    {"entities": [{"origin": "EWR"}, …]}        the same as rows, for models that read everything online

Pure: bytes in, columns out.
"""

import datetime as dt
from typing import Any

import msgspec
from msgspec import Struct

from treadle.records.clock import micros
from treadle.records.errors import TreadleError

_LIMIT = 1 << 62


class Parsed(Struct):
    """A request as `serving` takes it."""

    columns: dict[str, list[Any]]
    times: int | list[int] | None = None
    ids: list[str] = []


class _Body(Struct, forbid_unknown_fields=True):
    rows: list[dict[str, Any]] | None = None
    columns: dict[str, list[Any]] | None = None
    entities: list[dict[str, Any]] | dict[str, list[Any]] | None = None
    event_time: int | str | list[int | str] | None = None
    ids: list[str | int] | None = None


_decode = msgspec.json.Decoder(_Body).decode


def parse(body: bytes) -> Parsed:
    """The columns of a request.

    Raises:
        TreadleError: `bad_request`: no JSON, an unknown field, rows of different columns, an event time that is none.
    """
    try:
        request = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TreadleError(
            f"The request body cannot be read: {error}.",
            remedy='Send JSON like {"rows": [{"column": value, …}]}, or {"columns": {"column": [value]}}; event_time and ids may be added.',
        ) from error
    given = [x for x in (request.columns, request.rows, request.entities) if x is not None]
    if len(given) != 1:
        raise TreadleError(
            f"The request has {len(given)} of rows, columns and entities; it must have exactly one.",
            remedy='Send {"rows": [{"column": value, …}]}, or {"columns": {"column": [value, …]}}, or {"entities": [{"key": value, …}]}.',
        )
    columns = given[0] if isinstance(given[0], dict) else _columns(given[0])
    times = request.event_time
    if type(times) is not int and times is not None:
        times = [_time(value) for value in times] if isinstance(times, list) else _time(times)
    if type(times) is int and not -_LIMIT < times < _LIMIT:
        raise _no_time(times)
    ids = request.ids
    return Parsed(columns, times, [] if ids is None else [i if type(i) is str else str(i) for i in ids])


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    if len(rows) < 2:
        return {name: [value] for name, value in rows[0].items()} if rows else {}
    names = rows[0].keys()
    try:
        columns = {name: [row[name] for row in rows] for name in names}
    except KeyError as error:
        number = next(i for i, row in enumerate(rows) if error.args[0] not in row)
        raise _ragged(number, error.args[0], "nothing") from error
    for number, row in enumerate(rows):
        if len(row) != len(names):
            raise _ragged(number, next(name for name in row if name not in names), "a value")
    return columns


def _ragged(number: int, name: str, given: str) -> TreadleError:
    return TreadleError(
        f"Row {number} has {given} in the column {name}, unlike row 0: every row has the same columns.",
        remedy=f"Send {name!r} in every row; null where there is no value.",
        details={"column": name, "expected": "the same columns in every row", "given": given},
    )


def _time(value: int | str) -> int:
    if isinstance(value, str):
        try:
            return micros(dt.datetime.fromisoformat(value))
        except (ValueError, OverflowError) as error:
            raise _no_time(value) from error
    if not -_LIMIT < value < _LIMIT:
        raise _no_time(value)
    return value


def _no_time(value: Any) -> TreadleError:
    return TreadleError(
        f"{str(value)[:60]!r} is no event time.",
        remedy="Send RFC 3339 like '2013-02-01T12:00:00Z', or microseconds since 1970 UTC as a whole number.",
        details={"column": "event_time", "expected": "RFC 3339 or microseconds since 1970 UTC", "given": str(value)[:60]},
    )
