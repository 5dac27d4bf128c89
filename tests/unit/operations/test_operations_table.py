"""The table of operations holds together: routes, permissions, words, round trips."""

import re

import msgspec
import pytest
from msgspec import Struct

from treadle.operations import Writes, operation, operations
from treadle.operations.table import PERMISSIONS, allows, implements
from treadle.records.calls import ROLE_ORDER, Role

ROWS = list(operations().values())


@pytest.mark.parametrize("row", ROWS, ids=lambda r: r.name)
def test_a_row_is_whole(row):
    assert row.allow in PERMISSIONS
    assert row.summary.endswith((".", ":")) or "." in row.summary
    assert (row.method == "GET" or "/search/" in row.path) == (row.writes is None)
    fields = {f.name: f for f in msgspec.structs.fields(row.request)}
    assert all(fields[name].required for name in row.path_fields), "what stands in the path has no default"
    if row.writes is not None and not row.writes.measures:
        named = set(re.findall(r"{(\w+)}", row.writes.subject))
        answered = {"number", "state"}
        assert named <= set(fields) | answered
        assert row.writes.event.startswith("treadle.") or row.name == "EmitEvent"
    msgspec.json.schema(row.request)
    msgspec.json.schema(row.returns)


def test_names_commands_and_routes_are_unique():
    for key in (lambda r: r.name, lambda r: r.command, lambda r: (r.method, re.sub(r"{\w+}", "{}", r.path))):
        assert len({key(r) for r in ROWS}) == len(ROWS)


def test_roles_include_the_ones_before():
    for permission, least in PERMISSIONS.items():
        assert [allows(role, permission) for role in ROLE_ORDER] == [i >= ROLE_ORDER.index(least) for i in range(len(ROLE_ORDER))]
    assert not allows(Role.editor, "approvals:decide")
    assert allows(Role.approver, "runs:write")


def ask(documented=True):
    class Ask(Struct, frozen=True, kw_only=True):
        thing: str

    Ask.__doc__ = "Asks." if documented else ""
    return Ask


@pytest.mark.parametrize(
    ("route", "options", "told"),
    [
        ("FETCH /things", {"allow": "read"}, "is no route"),
        ("GET things", {"allow": "read"}, "is no route"),
        ("GET /things", {"allow": "everything"}, "is no permission"),
        ("GET /things", {"allow": "read", "writes": Writes("treadle.x", "x")}, "a GET or a search writes nothing"),
        ("POST /things", {"allow": "runs:write"}, "a GET or a search writes nothing"),
        ("POST /things/search/all", {"allow": "read", "writes": Writes("treadle.x", "x")}, "a GET or a search writes nothing"),
        ("GET /things/{other}", {"allow": "read"}, "the path names"),
        ("GET /projects/{thing}/runs", {"allow": "read"}, "share the route"),
    ],
)
def test_what_does_not_fit_does_not_register(route, options, told):
    with pytest.raises(ValueError, match=told):
        operation(route, returns=str, **options)(ask())
    assert len(operations()) == len(ROWS)


def test_an_operation_has_a_docstring():
    with pytest.raises(ValueError, match="no docstring"):
        operation("GET /undocumented", allow="read", returns=str)(ask(documented=False))


def test_binding_marks_the_method():
    Ask = ask()

    class Service:
        @implements(Ask)
        def answer(self, connection, request, call):
            return "x"

    assert Service.answer.__implements__ is Ask
