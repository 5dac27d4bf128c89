"""The parameters of a run: checked against the definition when it is submitted, made into the body's types when it is executed.

The definition carries an annotation as text, and whoever takes a submission must not import the project's code. So the text is read here:
the plain types that JSON can carry, and lists, dicts and unions of them. A type of the project's own is not known at submission; such a
value is checked when the body is run.
"""

import ast
import collections.abc
import datetime as dt
import difflib
import functools
import inspect
import operator
import typing
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from treadle.records.clock import utc
from treadle.records.definitions import Parameter, Pipeline
from treadle.records.errors import TreadleError

_PLAIN: dict[str, Any] = {
    "int": int,
    "float": float,
    "bool": bool,
    "str": str,
    "None": None,
    "NoneType": None,
    "Any": Any,
    "datetime": dt.datetime,
    "date": dt.date,
    "list": list,
    "tuple": tuple,
    "dict": dict,
    "set": set,
    "frozenset": frozenset,
    "List": list,
    "Tuple": tuple,
    "Dict": dict,
    "Sequence": collections.abc.Sequence,
    "Mapping": collections.abc.Mapping,
}
#: Where these types may be written to come from; `their.list` is not ours.
_MODULES = ("", "builtins", "typing", "t", "tp", "collections.abc", "abc", "datetime", "dt", "types")
#: Characters of an annotation that is read; nothing that nests deeper than Python's parser can be written in them.
_LONGEST = 200
_EXAMPLES = {int: "7", float: "0.5", bool: "true", dt.datetime: "2013-03-31T00:00:00Z", dt.date: "2013-03-31", str: "TEXT"}


def check(definition: Pipeline, given: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters of a run, defaults filled in.

    Raises:
        TreadleError: `bad_request`, for an unknown or missing one, or one whose value does not fit its type.
    """
    known = {p.name: p for p in definition.parameters}
    unknown = sorted(set(given) - set(known))
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, 1)
        meant = f" Was {near[0]} meant?" if near else ""
        raise TreadleError(
            f"Pipeline {definition.name} has no parameter {unknown[0]!r}.",
            remedy=f"It has: {', '.join(f'{p.name} ({expected(p)})' for p in known.values()) or 'none'}.{meant}",
            details={"unknown": unknown},
        )
    missing = sorted(name for name, p in known.items() if p.required and name not in given)
    if missing:
        first = known[missing[0]]
        raise TreadleError(
            f"Pipeline {definition.name} needs parameter {first.name!r} ({expected(first)}).",
            remedy=f"Give it: {_typed(definition, first)}",
            details={"missing": missing, "expected": expected(first)},
        )
    for name, value in given.items():
        _check_type(definition, known[name], value)
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


def expected(parameter: Parameter) -> str:
    """A parameter's type as a person reads it.

    >>> expected(Parameter(name="until", annotation="datetime.datetime | None")), expected(Parameter(name="x"))
    ('datetime | None', 'anything')
    """
    text = parameter.annotation.strip("'\"").replace("datetime.datetime", "datetime").replace("dt.datetime", "datetime")
    return text.replace("datetime.date", "date").replace("dt.date", "date") if text else "anything"


@functools.lru_cache(256)
def type_of(annotation: str) -> Any:
    """The type that an annotation's text names; `Any` where it names one that only the project's code knows.

    >>> type_of("int"), type_of("list[datetime.date] | None"), type_of("loop.Kind")
    (<class 'int'>, list[datetime.date] | None, typing.Any)
    """
    try:
        return _type(ast.parse(annotation.strip(), mode="eval").body) if 0 < len(annotation) <= _LONGEST else Any
    except (SyntaxError, TypeError, ValueError):
        return Any


def _type(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=None):
            return None
        case ast.Constant(value=str() as text):  # written under `from __future__ import annotations`
            return type_of(text)
        case ast.Name() | ast.Attribute():
            module, _, name = ast.unparse(node).rpartition(".")
            return _PLAIN.get(name, Any) if module in _MODULES else Any
        case ast.BinOp(op=ast.BitOr()):
            return _union([_type(node.left), _type(node.right)])
        case ast.Subscript():
            inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            return _of(ast.unparse(node.value).rpartition(".")[2], _type(node.value), inner)
        case _:
            return Any


def _of(name: str, outer: Any, inner: list[ast.expr]) -> Any:
    if name == "Literal":
        return typing.Literal[tuple(ast.literal_eval(value) for value in inner)]
    if name in ("Optional", "Union"):
        return _union([*map(_type, inner), *([None] if name == "Optional" else [])])
    if outer in (Any, None):
        return Any
    dots = [... if isinstance(value, ast.Constant) and value.value is ... else _type(value) for value in inner]
    return outer[tuple(dots)]


def _union(parts: list[Any]) -> Any:
    return Any if Any in parts else functools.reduce(operator.or_, parts)


def _check_type(definition: Pipeline, parameter: Parameter, value: Any) -> None:
    hint = type_of(parameter.annotation)
    try:
        _converted(parameter.name, value, hint)
    except TreadleError as error:
        text = hint is str and isinstance(value, int | float)
        quoted = f"--{parameter.name.replace('_', '-')} '\"{value}\"'"
        raise TreadleError(
            f"Parameter {parameter.name!r} of pipeline {definition.name} takes {expected(parameter)}, and was given {_shown(value)}.",
            remedy=f"Quote it as text: {quoted}" if text else f"Give it as {expected(parameter)}: {_typed(definition, parameter, hint)}",
            details={"parameter": parameter.name, "expected": expected(parameter), "given": _shown(value)},
        ) from error


def _typed(definition: Pipeline, parameter: Parameter, hint: Any = None) -> str:
    hint = hint or type_of(parameter.annotation)
    example = next((text for plain, text in _EXAMPLES.items() if plain in (hint, *typing.get_args(hint))), "VALUE")
    return f"treadle run {definition.name} --{parameter.name.replace('_', '-')} {example}"


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 80 else f"{text[:77]}..."


def _converted(name: str, value: Any, hint: Any) -> Any:
    shown = hint.__name__ if isinstance(hint, type) else hint
    choices = (hint, *typing.get_args(hint))
    try:
        if dt.datetime in choices and isinstance(value, str):
            return utc(dt.datetime.fromisoformat(value))
        if isinstance(value, int | float) and dt.datetime in choices and not (int in choices or float in choices):
            raise ValueError("a time is written as text")  # msgspec would read seconds since 1970
        return msgspec.convert(value, hint, strict=False)
    except (ValueError, msgspec.ValidationError) as error:
        raise TreadleError(
            f"Parameter {name}: {value!r} does not fit {shown}: {error}.",
            remedy=f"Give {name} as {shown} (times as 2013-03-31T00:00:00Z).",
            details={"parameter": name},
        ) from error
    except TypeError:  # a type of the user's that JSON cannot make: the body gets the plain value
        return value
