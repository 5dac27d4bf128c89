"""MLflow's REST API as one ASGI application: `/api/2.0/mlflow/…` and its twins under `/ajax-api`, for the project of the server or, with
`/mlflow/PROJECT` before it, for any.

A request walks: one dictionary → decode → the operation → encode. What is logged all the time never leaves the event loop but for the
database's own thread; everything else is answered by a worker thread.
"""

import logging
import re
import secrets
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote

import msgspec
from starlette.types import Receive, Scope, Send

from treadle.api.guard import answer
from treadle.api.mlflow import artifacts, experiments, logged_models, registry, runs, traces, webhooks
from treadle.api.mlflow.decode import Reader
from treadle.api.mlflow.errors import encode, translate
from treadle.api.mlflow.table import Context, ProtocolError, Row
from treadle.api.waiting import in_thread, until_done
from treadle.operations.tracking import SetExperimentTags
from treadle.plugins.storage import BlobStore
from treadle.records.calls import SYSTEM, Actor
from treadle.records.errors import TreadleError
from treadle.records.tracking import DEFAULT_EXPERIMENT

log = logging.getLogger("treadle.api.mlflow")

#: The release whose protocol this is.
SPOKEN = "3.6.0"
#: Before the paths, to name a project.
BASE = "/mlflow/"
PREFIXES = ("/api", "/ajax-api")
#: Bodies up to this size are read in the event loop; the reading of longer ones would keep others waiting.
INLINE = 256 * 1024

Found = tuple[Row, Reader, tuple[str, ...]]
Node = dict[str, Any]


class MlflowApi:
    """The application.

    Args:
        dispatch: the one door.
        project: of requests whose path names none.
        blobs: where files are; without it there are no files.
        rows: further endpoints, besides those of this package's modules.
    """

    def __init__(self, dispatch: Any, *, project: str = "default", blobs: BlobStore | None = None, rows: Iterable[Row] = ()):
        self._dispatch = dispatch
        self._project = project
        self._proxy = None if blobs is None else artifacts.Proxy(dispatch, blobs)
        self._exact: dict[tuple[str, str], Found] = {}
        self._tree: Node = {}
        for module in (experiments, runs, logged_models, registry, webhooks, traces, artifacts):
            for row in module.ROWS:
                self._add(row)
        for row in rows:
            self._add(row)

    def _add(self, row: Row) -> None:
        path = f"/{row.version}/mlflow{row.path}"
        names = tuple(part[1:-1] for part in path.split("/") if part.startswith("{"))
        found = (row, Reader(row.request), names)
        for prefix in PREFIXES:
            if not names:
                self._exact[row.method, prefix + path] = found
                continue
            node = self._tree
            for part in (prefix + path).strip("/").split("/"):
                node = node.setdefault(part if not part.startswith("{") else ("{path}" if part.endswith(":path}") else "{}"), {})
            node.setdefault("", {})[row.method] = found

    def begin(self) -> None:
        """Make the project's default experiment where it is not there, and forget what was known of others."""
        runs.LOCATIONS.forget()
        self._dispatch(SetExperimentTags(project=self._project, experiment_id=DEFAULT_EXPERIMENT), actor=SYSTEM)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        method = scope["method"]
        row: Row | None = None
        try:
            project, path, raw = self._split(scope)
            exact = self._exact.get((method, path))
            if exact is None and self._proxy is not None and artifacts.streams(raw):
                scope["state"]["project"] = project
                await self._proxy({**scope, "path": path, "raw_path": raw.encode("latin-1")}, receive, send)
                return
            if exact is None and path in _PLAIN:
                await _plain(send, _PLAIN[path], method)
                return
            row, reader, parts = (exact[0], exact[1], {}) if exact is not None else self._find(method, path, raw)
            body = await _body(scope, receive)
            context = self._context(project, scope["state"]["actor"])
            plan = None
            if row.write is not None and len(body) <= INLINE:
                request = _read(row, reader, parts, scope, body)
                plan = row.write(context, request)
            if plan is None:
                content = await in_thread(self._answer, row, reader, parts, context, scope, body)
            else:
                operation, finish = plan
                done = await until_done(self._dispatch.submit(operation, actor=context.actor))
                if row.asks is not None and row.asks(context, done):
                    content = await in_thread(_encoded, finish, done)
                else:
                    content = _encoded(finish, done)
        except Exception as error:  # noqa: BLE001  (every error there can be has to be told in the protocol's form)
            await _told(send, error, row, method)
            return
        await answer(send, 200, content, method=method)

    def _context(self, project: str, actor: Actor) -> Context:
        return Context(project, actor, lambda operation: self._dispatch(operation, actor=actor))

    def _answer(self, row: Row, reader: Reader, parts: dict[str, str], context: Context, scope: Scope, body: bytes) -> bytes:
        return msgspec.json.encode(row.handle(context, _read(row, reader, parts, scope, body)))

    def _split(self, scope: Scope) -> tuple[str, str, str]:
        """Project, decoded path and raw path."""
        path: str = scope["path"]
        raw = (scope.get("raw_path") or path.encode()).decode("latin-1")
        if not path.startswith(BASE):
            return self._project, path, raw
        rest = raw[len(BASE) :]
        project, slash, tail = rest.partition("/")
        name = unquote(project)
        return name, path[len(BASE) + len(name) :], slash + tail

    def _find(self, method: str, path: str, raw: str) -> tuple[Row, Reader, dict[str, str]]:
        methods, values = _walk(self._tree, raw.strip("/").split("/"), [])
        if method in methods:
            row, reader, names = methods[method]
            try:
                given = [unquote(value, errors="strict") for value in values]
            except UnicodeDecodeError:
                raise ProtocolError("INVALID_PARAMETER_VALUE", "The path is not UTF-8.") from None
            return row, reader, dict(zip((n.removesuffix(":path") for n in names), given, strict=True))
        others = sorted({*methods, *(m for m, p in self._exact if p == path)})
        if others:
            raise ProtocolError("ENDPOINT_NOT_FOUND", f"{method} is not possible at {path[:200]}; {', '.join(others)} is.", 405)
        raise traces.absent(path) or ProtocolError("ENDPOINT_NOT_FOUND", f"No endpoint found for {method} {path[:200]}.")


def _encoded(finish: Callable[[Any], Any], done: Any) -> bytes:
    return msgspec.json.encode(finish(done))


def _walk(node: Node, segments: list[str], values: list[str]) -> tuple[dict[str, Found], list[str]]:
    """The methods at a path, and the values of its fields; literals before fields."""
    if not segments:
        return node.get("", {}), values
    head, *tail = segments
    for key, taken, left in ((head, [], tail), ("{}", [head], tail), ("{path}", ["/".join(segments)], [])):
        if key in node and (key == head or head):
            found = _walk(node[key], left, [*values, *taken])
            if found[0]:
                return found
    return {}, []


def _read(row: Row, reader: Reader, parts: dict[str, str], scope: Scope, body: bytes) -> Any:
    if row.method == "GET" or (row.method == "DELETE" and not body):
        return reader.query(scope["query_string"].decode("latin-1"), parts)
    return reader.body(body, parts)


async def _body(scope: Scope, receive: Receive) -> bytes:
    method, headers = scope["method"], dict(scope["headers"])
    if headers.get(b"content-encoding", b"identity") not in (b"identity", b""):
        raise ProtocolError("BAD_REQUEST", "Compressed bodies are not read.", 415)
    kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
    if method == "POST" and kind != b"application/json":
        said = "Content-Type must be one of ['application/json']." if b"content-type" in headers else "Content-Type header is missing."
        raise ProtocolError("INVALID_PARAMETER_VALUE", f"Bad Request. {said}")
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        return message.get("body", b"")
    parts: list[bytes] = []
    while True:
        if message["type"] == "http.disconnect":
            raise ProtocolError("BAD_REQUEST", "The caller went away.")
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)
        message = await receive()


def explained(error: BaseException, row: Row | None = None) -> ProtocolError:
    """Any error in the protocol's words; one that nobody foresaw goes to the log, and its number to the caller."""
    if isinstance(error, ProtocolError):
        return error
    if isinstance(error, TreadleError):
        return (row.explain(error) if row is not None and row.explain is not None else None) or translate(error)
    number = secrets.token_hex(4)
    log.error("%s failed unexpectedly [%s]", row.path if row else "a request", number, exc_info=error)
    return ProtocolError("INTERNAL_ERROR", f"The request failed unexpectedly ({type(error).__name__}); the server's log has it: [{number}]")


async def _told(send: Send, error: Exception, row: Row | None, method: str) -> None:
    status, content = encode(explained(error, row))
    await answer(send, status, content, close=status == 413, method=method)


async def _plain(send: Send, text: bytes, method: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else text})


_MINE = ("/api/2.0/", "/api/3.0/", "/ajax-api/", BASE)
_PAGE = re.compile(r"/mlflow/[^/]+(/((experiments|runs|models|logged-models)(/.*)?)?)?", re.DOTALL)
_ALONE = ("/get-artifact", "/model-versions/get-artifact", "/v1/traces", "/graphql")
#: What clients ask of a server beside the API, where the path names a project.
_PLAIN = {"/health": b"OK", "/version": SPOKEN.encode()}


def refused(path: str, error: TreadleError) -> tuple[int, bytes] | None:
    """Status and body of an error of the guard, where the path is the protocol's."""
    return encode(translate(error)) if is_mlflow(path) else None


def is_mlflow(path: str) -> bool:
    """Whether a path is the protocol's. An address that names a project is also what clients print before `#/experiments/…`: alone, and
    with the pages that this leads to behind it, it is the console's.

    >>> is_mlflow("/mlflow/churn/api/2.0/mlflow/runs/get"), is_mlflow("/mlflow/churn/health"), is_mlflow("/mlflow/churn/")
    (True, True, False)
    """
    return (path.startswith(_MINE) and _PAGE.fullmatch(path) is None) or path in _ALONE
