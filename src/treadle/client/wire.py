"""How a request travels: one reading of the operations table for both ends of the wire.

A verb's fields go three ways: those its path names into the path (one segment each, percent-encoded, slashes too), the rest into
the query string of a GET or DELETE, or into the JSON body of a POST or PUT. The server decodes with the very object that the
client encodes with, so the two cannot disagree. Text (path, query) is read leniently, `"12"` is a number where a number is asked;
JSON is read strictly, `"12"` is not.

In a query an empty value (`state=`) is null where the field may be null, and a list is written as JSON (`run_ids=["a","b"]`).
"""

import functools
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

import msgspec

from treadle.operations.table import Operation, operations
from treadle.records.errors import TreadleError

#: Where the operations stand on a server; the console has the rest of the paths.
PREFIX = "/api"
IDEMPOTENCY_KEY = "Idempotency-Key"
EVENT_TIME = "Treadle-Event-Time"


class Wire:
    """The travelling form of one operation."""

    def __init__(self, operation: Operation):
        self.operation = operation
        self.segments = tuple(PREFIX[1:].split("/")) + tuple(operation.path.strip("/").split("/"))
        fields = msgspec.structs.fields(operation.request)
        rest = [f for f in fields if f.name not in operation.path_fields]
        self.in_query = operation.method in ("GET", "DELETE")
        self.path_type = _part(f"{operation.name}Path", [f for f in fields if f.name in operation.path_fields])
        self.rest_type = _part(f"{operation.name}{'Query' if self.in_query else 'Body'}", rest)
        self.rest = tuple(rest)
        self._body = msgspec.json.Decoder(self.rest_type)
        self._answer = msgspec.json.Decoder(operation.returns)
        self._nullable = frozenset(f.name for f in rest if nullable(f.type))
        self._lists = frozenset(f.name for f in rest if typing.get_origin(f.type) is list)

    def encode(self, request: Any) -> tuple[str, bytes | None]:
        """The target (path and query, ASCII) and the body of a request."""
        values = {name: _text(getattr(request, name)) for name in self.operation.path_fields}
        empty = [name for name, value in values.items() if not value]
        if empty:
            raise TreadleError(
                f"{self.operation.name} needs {', '.join(empty)}, which is empty.",
                remedy=f"Give {empty[0]} a value: it is part of the address {self.operation.path}",
            )
        path = PREFIX + self.operation.path.format(**{name: quote(value, safe="") for name, value in values.items()})
        if not self.in_query:
            return path, msgspec.json.encode(self.rest_type(**{f.name: getattr(request, f.name) for f in self.rest}))
        query = [(f.name, _text(getattr(request, f.name))) for f in self.rest if getattr(request, f.name) != _default(f)]
        return (f"{path}?{urlencode(query)}" if query else path), None

    def decode(self, path: Mapping[str, str], query: str, body: bytes) -> Any:
        """The request that arrived.

        Args:
            path: the path's fields, decoded.
            query: the query string as sent.
            body: the body as sent, `b""` for none.

        Raises:
            TreadleError: `bad_request`, naming the field, what was expected and what was given.
        """
        try:
            known = msgspec.convert(path, self.path_type, strict=False)
            rest = self._query(query) if self.in_query else self._body.decode(body or b"{}")
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise self._refused(error) from error
        if query and not self.in_query:
            raise self._refused(ValueError(f"a {self.operation.method} takes its fields in the JSON body, not in the query"))
        given = {name: getattr(known, name) for name in self.operation.path_fields}
        return self.operation.request(**given, **{f.name: getattr(rest, f.name) for f in self.rest})

    def answer(self, body: bytes) -> Any:
        """The answer that came back, as the record the operation returns."""
        return self._answer.decode(body)

    def _query(self, query: str) -> Any:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=100)
        values: dict[str, Any] = {name: None if value == "" and name in self._nullable else value for name, value in pairs}
        if len(values) != len(pairs):
            raise msgspec.ValidationError("a field is given twice")
        for name in self._lists & values.keys():
            values[name] = msgspec.json.decode(values[name])
        return msgspec.convert(values, self.rest_type, strict=False)

    def _refused(self, error: Exception) -> TreadleError:
        takes = ", ".join(f.name + ("" if f.required else "?") for f in self.rest) or "nothing"
        where = "query" if self.in_query else "JSON body"
        return TreadleError(
            f"{self.operation.name} cannot be read: {error}.",
            remedy=f"Its {where} takes: {takes} (? may be left out). See /openapi.json, or: treadle api {self.operation.command} --help",
            details={"operation": self.operation.name},
        )


@functools.cache
def wires() -> dict[type, Wire]:
    """The wire form of every operation, by request type."""
    return {request: Wire(operation) for request, operation in operations().items()}


class Routes:
    """Finds the operation of a method and a raw path: a tree over segments, literals before fields.

    Works on the path as sent, so that a field may hold an encoded slash.
    """

    def __init__(self, all_wires: Sequence[Wire]):
        self._root: dict[str, Any] = {}
        for wire in all_wires:
            node = self._root
            for segment in wire.segments:
                node = node.setdefault("{}" if segment.startswith("{") else segment, {})
            node.setdefault("", {})[wire.operation.method] = (wire, [s[1:-1] for s in wire.segments if s.startswith("{")])

    def find(self, raw_path: str) -> dict[str, tuple[Wire, dict[str, str]]]:
        """Method → (wire, path fields) at this path; empty where there is nothing."""
        found = self._walk(self._root, raw_path.strip("/").split("/"), [])
        if found is None:
            return {}
        methods, values = found
        decoded = [unquote(v, errors="strict") for v in values]
        return {method: (wire, dict(zip(names, decoded, strict=True))) for method, (wire, names) in methods.items()}

    def _walk(self, node: dict[str, Any], segments: list[str], values: list[str]) -> tuple[dict[str, Any], list[str]] | None:
        if not segments:
            return (node[""], values) if "" in node else None
        head, *tail = segments
        if head in node and head != "{}":
            found = self._walk(node[head], tail, values)
            if found is not None:
                return found
        return self._walk(node["{}"], tail, [*values, head]) if "{}" in node and head else None


def nullable(kind: Any) -> bool:
    """Whether a field's type has None in it."""
    return typing.get_origin(kind) in (typing.Union, types.UnionType) and type(None) in typing.get_args(kind)


def _part(name: str, fields: Sequence[msgspec.structs.FieldInfo]) -> type[msgspec.Struct]:
    """A struct of some of a request's fields, that knows no others."""
    columns: list[Any] = []
    for f in fields:
        if f.default is not msgspec.NODEFAULT:
            columns.append((f.name, f.type, f.default))
        elif f.default_factory is not msgspec.NODEFAULT:
            columns.append((f.name, f.type, msgspec.field(default_factory=f.default_factory)))
        else:
            columns.append((f.name, f.type))
    return msgspec.defstruct(name, columns, frozen=True, kw_only=True, forbid_unknown_fields=True)


def _default(field: msgspec.structs.FieldInfo) -> Any:
    return field.default_factory() if callable(field.default_factory) else field.default


def _text(value: Any) -> str:
    plain = msgspec.to_builtins(value)
    if plain is None:
        return ""
    if isinstance(plain, bool):
        return "true" if plain else "false"
    return plain if isinstance(plain, str) else msgspec.json.encode(plain).decode()
