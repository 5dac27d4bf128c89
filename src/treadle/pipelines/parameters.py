"""The parameters of a run: checked against the definition when it is submitted, made into the body's types when it is executed."""

import datetime as dt
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from treadle.records.clock import utc
from treadle.records.definitions import Pipeline
from treadle.records.errors import TreadleError


def check(definition: Pipeline, given: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters of a run, defaults filled in.

    Raises:
        TreadleError: `bad_request`, for an unknown or missing one.
    """
    known = {p.name: p for p in definition.parameters}
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise TreadleError(
            f"Pipeline {definition.name} has no parameter {unknown[0]!r}.",
            remedy=f"It has: {', '.join(known) or 'none'}.",
            details={"unknown": unknown},
        )
    missing = sorted(name for name, p in known.items() if p.required and name not in given)
    if missing:
        raise TreadleError(
            f"Pipeline {definition.name} needs parameter {missing[0]!r}.",
            remedy=f"Give it: treadle run {definition.name} --{missing[0].replace('_', '-')} VALUE",
            details={"missing": missing},
        )
    return {name: given.get(name, p.default) for name, p in known.items()}


def convert(function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """JSON values as the types that a body's annotations name: `"2013-03-31"` for a datetime becomes that midnight, UTC.

    Raises:
        TreadleError: `bad_request`, for a value that does not fit.
    """
    function = inspect.unwrap(function)
    try:
        hints = typing.get_type_hints(function)
    except (NameError, TypeError):  # an annotation that only a type checker can read
        hints = {}
    return {name: _converted(name, value, hints.get(name, Any)) for name, value in given.items()}


def _converted(name: str, value: Any, hint: Any) -> Any:
    try:
        if isinstance(value, str) and dt.datetime in (hint, *typing.get_args(hint)):
            return utc(dt.datetime.fromisoformat(value))
        return msgspec.convert(value, hint, strict=False)
    except (ValueError, msgspec.ValidationError) as error:
        raise TreadleError(
            f"Parameter {name}: {value!r} does not fit {getattr(hint, '__name__', hint)}: {error}.",
            remedy=f"Give {name} as {getattr(hint, '__name__', hint)} (times as 2013-03-31T00:00:00Z).",
            details={"parameter": name},
        ) from error
    except TypeError:  # a type of the user's that JSON cannot make: the body gets the plain value
        return value
