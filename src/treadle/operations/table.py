"""One table of operations.

A verb is a frozen request struct under `@operation("POST /…", allow="runs:write", returns=Run)`; a service method is bound to it by
`@implements(Verb)`. REST routes, the typed client, derived CLI commands, OpenAPI, the permission check and the audit event are
all read from this table, so a verb cannot exist in one face and lack in another. Deny by default: an operation without a
permission does not register, and one without an implementation fails when the dispatcher is built.
"""

import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from treadle.records.calls import ROLE_ORDER, Role

T = TypeVar("T", bound=type)
F = TypeVar("F", bound=Callable[..., Any])

#: permission → the least role that has it. A permission outside this table cannot be used.
PERMISSIONS: dict[str, Role] = {
    "read": Role.viewer,
    "runs:write": Role.editor,
    "data:write": Role.editor,
    "models:write": Role.editor,
    "project:apply": Role.editor,
    "releases:write": Role.editor,
    "monitoring:write": Role.editor,
    "approvals:decide": Role.approver,
    "payloads:erase": Role.admin,
    "actors:admin": Role.admin,
    "home:admin": Role.admin,
}

_ROUTE = re.compile(r"^(GET|POST|PUT|DELETE) (/[a-z0-9_/{}.-]*)$")


class Writes(Struct, frozen=True):
    """The audit event of a write: its CloudEvents type, and the subject, a format string over the request's fields.
    `measures` marks measurements (metrics, params): writes that are no events."""

    event: str = ""
    subject: str = ""
    measures: bool = False


class Operation(Struct, frozen=True, kw_only=True):
    """One row of the table."""

    name: str  # CreateRun
    room: str  # ledger
    method: str
    path: str
    allow: str
    request: type
    returns: Any
    writes: Writes | None
    summary: str
    description: str

    @property
    def command(self) -> str:
        """The derived CLI name: `create-run`."""
        return re.sub(r"(?<!^)(?=[A-Z])", "-", self.name).lower()

    @property
    def path_fields(self) -> tuple[str, ...]:
        """Names of the request's fields that stand in the path."""
        return tuple(re.findall(r"{(\w+)}", self.path))


_table: dict[type, Operation] = {}


def operation(route: str, *, allow: str, returns: Any, writes: Writes | None = None) -> Callable[[T], T]:
    """Declare a verb on its request struct.

    Args:
        route: method and path; fields in braces are fields of the request.
        allow: the permission, one of `PERMISSIONS`.
        returns: the record type (anything msgspec can decode) of the answer.
        writes: for every method but GET, what it writes; a POST to `…/search/…` reads, its filter being too long for an address.

    Raises:
        ValueError: a route, permission or field that does not fit; a docstring that is missing.
    """
    matched = _ROUTE.match(route)

    def register(request: T) -> T:
        if not matched:
            raise ValueError(f"{route!r} is no route; write 'POST /things/{{id}}'")
        if allow not in PERMISSIONS:
            raise ValueError(f"{allow!r} is no permission; one of {', '.join(PERMISSIONS)}")
        if (matched[1] == "GET" or "/search/" in matched[2]) != (writes is None):
            raise ValueError(f"{request.__name__}: a GET or a search writes nothing, and everything else says what it writes")
        doc = (request.__doc__ or "").strip()
        if not doc or doc.startswith(request.__name__ + "("):
            raise ValueError(f"{request.__name__} has no docstring")
        fields = {f.name for f in msgspec.structs.fields(request)}
        row = Operation(
            name=request.__name__,
            room=request.__module__.rpartition(".")[2],
            method=matched[1],
            path=matched[2],
            allow=allow,
            request=request,
            returns=returns,
            writes=writes,
            summary=doc.split("\n\n")[0].replace("\n", " "),
            description=doc,
        )
        unknown = set(row.path_fields) - fields
        if unknown:
            raise ValueError(f"{row.name}: the path names {unknown}, which the request lacks")
        clash = next((o.name for o in _table.values() if (o.method, _shape(o.path)) == (row.method, _shape(row.path))), None)
        if clash:
            raise ValueError(f"{row.name} and {clash} share the route {route}")
        _table[request] = row
        return request

    return register


def implements(request: type, *, long: bool = False) -> Callable[[F], F]:
    """Bind a service method to a declared verb.

    A write is `method(self, tx, request, call)` inside the dispatcher's transaction; a read is the same with a read connection. A `long`
    write is `method(self, database, request, call)`, outside any transaction: it makes small ones of its own, so that nobody waits for
    it, and its event follows when it is done. The dispatcher finds bound methods on the services it is given.
    """

    def bind(method: F) -> F:
        method.__implements__ = request  # type: ignore[attr-defined]
        method.__long__ = long  # type: ignore[attr-defined]
        return method

    return bind


def operations() -> dict[type, Operation]:
    """The whole table: importing anything of `treadle.operations` loads every room's file."""
    return _table


def lookup(request: type) -> Operation:
    """The row of a request type."""
    return _table[request]


def allows(role: Role, permission: str) -> bool:
    """Whether a role has a permission, each role including the ones before it.

    >>> allows(Role.editor, "approvals:decide")
    False
    """
    return ROLE_ORDER.index(role) >= ROLE_ORDER.index(PERMISSIONS[permission])


def _shape(path: str) -> str:
    return re.sub(r"{\w+}", "{}", path)
