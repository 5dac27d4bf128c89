"""What a row of the translation table is: an endpoint, what it reads, and the function that answers it."""

import json
import posixpath
import re
from collections.abc import Callable
from typing import Annotated, Any

from msgspec import Meta, Struct

from treadle.records.calls import Actor
from treadle.records.errors import TreadleError

#: A 64-bit integer, as the protocol has them; a request may write it as a string.
Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
#: Times of the protocol are milliseconds; these are the ones that are a date of ours too.
MAX_MILLIS = 253_402_300_799_999


class Context(Struct, frozen=True):
    """Who asks, in which project; `call(operation_request)` runs an operation as that actor and answers what it answers."""

    project: str
    actor: Actor
    call: Callable[[Any], Any]


#: An operation, and what makes the protocol's answer of its answer.
Plan = tuple[Any, Callable[[Any], Any]]


class ProtocolError(Exception):
    """An error in the protocol's words.

    Args:
        code: `RESOURCE_DOES_NOT_EXIST`, `INVALID_PARAMETER_VALUE`, …
        message: what clients show, and some act on.
        status: of HTTP, where it is another than the code's.
    """

    def __init__(self, code: str, message: str, status: int | None = None):
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status

    def __reduce__(self):
        return ProtocolError, (self.code, self.message, self.status)


class Row(Struct, frozen=True):
    """An endpoint.

    Attributes:
        method: GET, POST, PUT, PATCH or DELETE.
        path: what follows `/api/<version>/mlflow`; a part in braces (`/logged-models/{model_id}`) is a field of the request. A name that
            ends in `:path` takes the rest of the path.
        request: a msgspec Struct, filled from the JSON body, or for GET from the query string, and from the path. Unknown fields are left
            out, integers may be strings.
        handle: runs in a worker thread; answers anything that msgspec encodes.
        version: of the API.
        write: for what is called all the time, in place of `handle` where it can: the one writing operation that answers the request, and
            what makes the answer of its. It must not wait for anything, for it runs in the event loop; None leaves the request to `handle`.
        asks: whether making the answer of what `write` did has to ask something more, which a worker thread then does; None: never.
        explain: an error of an operation in words that only this endpoint has; None for the usual ones.
    """

    method: str
    path: str
    request: type
    handle: Callable[[Context, Any], Any]
    version: str = "2.0"
    write: Callable[[Context, Any], Plan | None] | None = None
    asks: Callable[[Context, Any], bool] | None = None
    explain: Callable[[TreadleError], ProtocolError | None] | None = None


def writing(
    path: str,
    request: type,
    plan: Callable[[Context, Any], "Plan"],
    *,
    method: str = "POST",
    asks: Callable[[Context, Any], bool] | None = None,
    explain: Callable[[TreadleError], ProtocolError | None] | None = None,
) -> Row:
    """A row whose request is one writing operation, made without asking anything."""

    def handle(context: Context, given: Any) -> Any:
        operation, finish = plan(context, given)
        return finish(context.call(operation))

    return Row(method, path, request, handle, write=plan, asks=asks, explain=explain)


class Nothing(Struct, frozen=True):
    """A request of which nothing is read."""


class Tag(Struct, frozen=True):
    """A key and a value; params have the same form."""

    key: str = ""
    value: str = ""


#: The answer of a call that has nothing to say.
EMPTY: dict[str, Any] = {}


def nothing(_answer: Any) -> dict[str, Any]:
    """The answer of a call that has nothing to say, whatever its operation said."""
    return EMPTY


_MORE = "See the API docs for more information about request parameters."


def missing(name: str) -> ProtocolError:
    """The error of a required parameter that is not there or empty."""
    return ProtocolError("INVALID_PARAMETER_VALUE", f"Missing value for required parameter '{name}'. {_MORE}")


def required(request: Any, *names: str) -> None:
    """Raises for the first of these fields that is not there or empty."""
    for name in names:
        if getattr(request, name) in (None, "", [], {}):
            raise missing(name)


def wrong_type(name: str, shown: str, kind: str) -> ProtocolError:
    """The error of a parameter with a value of another type: `shown` is its compact JSON, `kind` the name that Python has for its type."""
    return ProtocolError(
        "INVALID_PARAMETER_VALUE", f"Invalid value {shown} for parameter '{name}' supplied:  Hint: Value was of type '{kind}'. {_MORE}"
    )


def invalid(message: str) -> ProtocolError:
    """INVALID_PARAMETER_VALUE."""
    return ProtocolError("INVALID_PARAMETER_VALUE", message)


def within(name: str, value: str | None, limit: int) -> None:
    """Raises where a text is longer than the limit, or holds a NUL, which no database keeps."""
    if value is None:
        return
    if len(value) > limit:
        raise invalid(f"'{name}' exceeds the maximum length of {limit} characters")
    if "\x00" in value:
        raise invalid(f"'{name}' contains a NUL character, which cannot be stored")


def check_millis(name: str, value: int | None) -> int | None:
    """A time in milliseconds, or an error: none before 1970, none after 9999."""
    if value is not None and not 0 <= value <= MAX_MILLIS:
        raise invalid(f"Invalid value {value} for parameter '{name}' supplied: it must be milliseconds from 1970 to the year 9999. {_MORE}")
    return value


def check_page_size(name: str, value: int, most: int) -> int:
    """A page size, or the protocol's error for one that cannot be had."""
    if value < 1:
        raise invalid(f"Invalid value {value} for parameter '{name}' supplied. It must be a positive integer")
    if value > most:
        raise invalid(f"Invalid value {value} for parameter '{name}' supplied. It must be at most {most}")
    return value


_NAME = re.compile(r"[/\w.\- :]*")


def check_name(name: str, parameter: str, limit: int, what: str | None = None) -> None:
    """A name of a metric, parameter or tag, as the protocol allows them.

    Args:
        name: the name.
        parameter: which parameter of the request it is: `key`, `metrics[0].name`.
        limit: characters.
        what: the parameter as the error of a name that is too long calls it.
    """
    if not name:
        raise missing(parameter)
    if not _NAME.fullmatch(name):
        raise invalid(
            f"Invalid value {_quoted(name)} for parameter '{parameter}' supplied: Names may only contain alphanumerics, underscores (_), "
            "dashes (-), periods (.), spaces ( ), colon(:) and slashes (/)."
        )
    if "/" in name or name.startswith("."):
        resolved = posixpath.normpath(name)
        if resolved != name or resolved == "." or name.startswith(("..", "/")):
            raise invalid(
                f"Invalid value {_quoted(name)} for parameter '{parameter}' supplied: Names may be treated as files in certain cases, and "
                f"must not resolve to other names when treated as such. This name would resolve to '{resolved}'"
            )
    if len(name) > limit:
        raise invalid(f"'{what or parameter}' exceeds the maximum length of {limit} characters")


def _quoted(name: str) -> str:
    return json.dumps(name if len(name) <= 1000 else f"{name[:1000]}…")
