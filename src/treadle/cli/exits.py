"""Errors at the terminal: words on standard error, a number to the shell."""

import os
import sys
import traceback

import click
import msgspec

from treadle.records.errors import TreadleError

#: Error code → exit code; covers `treadle.records.errors.CODES` exactly, a test says so. 0 is success, 130 an interrupt.
EXITS: dict[str, int] = {
    "internal": 1,
    "step_failed": 1,
    "cancelled": 1,
    "nondeterministic": 1,
    "not_implemented": 1,
    "bad_request": 2,
    "bad_definition": 2,
    "bad_data": 2,
    "missing_extra": 2,
    "not_found": 3,
    "conflict": 4,
    "busy": 4,
    "denied": 4,
    "unauthenticated": 4,
    "unavailable": 5,
    "timed_out": 5,
    "newer_schema": 5,
    "storage_full": 5,
    "corrupt": 6,
}


def told(error: BaseException, *, as_json: bool) -> int:
    """Tell an error and return the exit code. `TREADLE_DEBUG=1` adds the traceback.

    With `as_json` the error is one line of JSON, as the API would answer it, on standard error: standard output holds answers only.
    """
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    if isinstance(error, BrokenPipeError):
        sys.stdout = open(os.devnull, "w")
        return 0
    if isinstance(error, (KeyboardInterrupt, EOFError)):
        click.echo("Stopped.", err=True)
        return 130
    if os.environ.get("TREADLE_DEBUG"):
        traceback.print_exception(error)
    known = error if isinstance(error, TreadleError) else _unexpected(error)
    if as_json:
        click.echo(msgspec.json.encode(known.body()).decode(), err=True)
    else:
        click.echo(click.style("Error: ", fg="red", bold=True) + known.what, err=True)
        click.echo(click.style("  To do: ", bold=True) + known.remedy, err=True)
    return EXITS[known.code]


def misused(error: click.ClickException) -> int:
    """Tell a program of a wrong option, verb or value, in the JSON that every other error has."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    remedy = f"See {context.command_path if context else 'treadle'} --help"
    return told(TreadleError(error.format_message(), remedy=remedy), as_json=True)


def _unexpected(error: BaseException) -> TreadleError:
    if isinstance(error, OSError):
        what = f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}."
        missing = isinstance(error, FileNotFoundError)
        code = "not_found" if missing else "storage_full" if error.errno in (28, 122) else "internal"
        return TreadleError(what, remedy="Check the path, its permissions and the space on its disk: treadle doctor", code=code)
    return TreadleError(
        f"Something failed that nobody foresaw: {type(error).__name__}: {error}",
        remedy="Run it again with TREADLE_DEBUG=1 to see where, and report it.",
        code="internal",
    )
