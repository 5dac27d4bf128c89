"""The application: the operations table as routes, plus `/health`, `/version`, `/openapi.json` and what is mounted beside.

These hand-written routes are all there are. The API never imports a line of user code: definitions arrive as data.

Operations do not pass Starlette's stack, and a write takes no thread: it is decoded where it arrives, handed to the database's
writer, and its answer awaited. Reads run in a thread, since they wait for the database.
"""

import datetime as dt
import functools
import importlib.metadata
import logging
import re
import secrets
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, Protocol

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from treadle.api.errors import encode
from treadle.api.guard import MAX_BODY, MAX_UPLOAD, Guard, answer
from treadle.api.mlflow.app import SPOKEN, MlflowApi, is_mlflow, refused
from treadle.api.openapi import document
from treadle.api.waiting import in_thread, until_done
from treadle.client.wire import EVENT_TIME, IDEMPOTENCY_KEY, PREFIX, Routes, Wire, wires
from treadle.operations.workshop import ListProjects
from treadle.records.calls import SYSTEM, Actor
from treadle.records.errors import TreadleError

log = logging.getLogger("treadle.api")

#: Longest body, in bytes, that is decoded on the event loop (about a millisecond).
_SHORT = 256 * 1024
_UNDER = f"{PREFIX}/"
_KEY = re.compile(r"^[\x21-\x7e]{1,200}$")


class Door(Protocol):
    """The one door (`treadle.ledger.dispatch.Dispatcher`). Where it has `submit` too, writes go through that."""

    def __call__(self, request: Any, *, actor: Actor, idempotency_key: str | None, event_time: dt.datetime | None) -> Any:
        """Run an operation."""
        ...


def build_app(
    dispatch: Callable[..., Any],
    *,
    authenticate: Callable[[str], Actor],
    nobody: Actor | None,
    names: Iterable[str] = (),
    addresses: bool = False,
    max_body: int = MAX_BODY,
    max_upload: int = MAX_UPLOAD,
    mlflow: MlflowApi | None = None,
    mounts: Iterable[tuple[str, ASGIApp]] = (),
) -> ASGIApp:
    """The ASGI application.

    Args:
        dispatch: the one door.
        authenticate, nobody, names, addresses, max_body, max_upload: see `Guard`.
        mlflow: the API of MLflow's clients.
        mounts: (path, application) beside the API, `("", console)` for all the rest.
    """

    async def health(_request: Request) -> Response:
        await in_thread(functools.partial(dispatch, ListProjects(), actor=SYSTEM))
        return Response(b"OK", media_type="text/plain")

    async def version(request: Request) -> Response:
        if request.headers.get("user-agent", "").startswith("mlflow"):  # which asks for a release of its own
            return Response(SPOKEN, media_type="text/plain")
        return Response(_version(), media_type="application/json")

    async def openapi(_request: Request) -> Response:
        return Response(_openapi(), media_type="application/json")

    routes: list[BaseRoute] = [
        Route("/health", health),
        Route("/version", version),
        Route("/openapi.json", openapi),
        *(Mount(path, app) for path, app in mounts),
    ]
    guarding: dict[str, Any] = {
        "authenticate": authenticate,
        "nobody": nobody,
        "names": tuple(names),
        "addresses": addresses,
        "max_body": max_body,
        "max_upload": max_upload,
        "told": refused,
    }
    rest = Starlette(
        routes=routes,
        middleware=[Middleware(Guard, **guarding)],
        exception_handlers={TreadleError: _told, 404: _lost, 405: _lost, Exception: _broken},
    )
    api = ServerErrorMiddleware(Guard(Api(dispatch), **guarding), handler=_broken)
    theirs = api if mlflow is None else ServerErrorMiddleware(Guard(mlflow, **guarding), handler=_broken)

    async def front(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if mlflow is not None and path.startswith("//"):  # of an address with a slash at its end
            path = f"/{path.lstrip('/')}"
            scope = {**scope, "path": path, "raw_path": b"/" + scope.get("raw_path", path.encode()).lstrip(b"/")}
        if mlflow is not None and is_mlflow(path):
            await theirs(scope, receive, send)
        else:
            await (api if path.startswith(_UNDER) or path == PREFIX else rest)(scope, receive, send)

    return front


class Api:
    """The operations as one ASGI application."""

    def __init__(self, dispatch: Callable[..., Any]):
        self._dispatch = dispatch
        self._submit: Callable[..., Future[Any]] | None = getattr(dispatch, "submit", None)
        self._routes = Routes(list(wires().values()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        method = scope["method"]
        try:
            wire, path = self._route(method, scope)
            body = await _body(scope, receive)
            content = await self._run(wire, path, scope, body)
        except TreadleError as error:
            finer = error.details.get("status") or (413 if error.details.get("limit") else None)
            await answer(send, *encode(error, finer), close=finer == 413, method=method, allow=error.details.get("allow", ""))
            return
        await answer(send, 200, content)

    def _route(self, method: str, scope: Scope) -> tuple[Wire, dict[str, str]]:
        raw = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
        try:
            found = self._routes.find(raw)
        except UnicodeDecodeError as error:
            raise TreadleError("The path is not UTF-8.", remedy="Percent-encode UTF-8.") from error
        if method in found:
            return found[method]
        if found:
            allow = ", ".join(sorted(found))
            raise TreadleError(
                f"{method} is not possible at {scope['path']}; {allow} is.",
                remedy="See /openapi.json",
                details={"status": 405, "allow": allow},
            )
        raise TreadleError(f"There is nothing at {scope['path']}.", remedy="See /openapi.json for what there is.", code="not_found")

    async def _run(self, wire: Wire, path: dict[str, str], scope: Scope, body: bytes) -> bytes:
        try:
            if self._submit is None or wire.operation.writes is None:
                return await in_thread(self._read, wire, path, scope, body)
            if len(body) <= _SHORT:
                request, given = _decoded(wire, path, scope, body)
            else:
                request, given = await in_thread(_decoded, wire, path, scope, body)
            return msgspec.json.encode(await until_done(self._submit(request, **given)))
        except TreadleError:
            raise
        except Exception as error:
            raise _unexpected(error, wire.operation.name) from error

    def _read(self, wire: Wire, path: dict[str, str], scope: Scope, body: bytes) -> bytes:
        request, given = _decoded(wire, path, scope, body)
        return msgspec.json.encode(self._dispatch(request, **given))


def _decoded(wire: Wire, path: dict[str, str], scope: Scope, body: bytes) -> tuple[Any, dict[str, Any]]:
    """The request, and what else the dispatcher is told."""
    headers = {k: v.decode("latin-1") for k, v in scope["headers"]}
    request = wire.decode(path, scope["query_string"].decode("latin-1"), body)
    return request, {
        "actor": scope["state"]["actor"],
        "idempotency_key": _idempotency_key(headers),
        "event_time": _event_time(headers),
    }


async def _body(scope: Scope, receive: Receive) -> bytes:
    headers = dict(scope["headers"])
    if headers.get(b"content-encoding", b"identity") not in (b"identity", b""):
        raise TreadleError("Compressed bodies are not read.", remedy="Send the JSON plain.", details={"status": 415})
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise TreadleError("The caller went away.", remedy="Call again.", code="cancelled")
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            break
    body = b"".join(parts)
    kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
    if body and kind != b"application/json":
        raise TreadleError(
            f"The body is {kind.decode('latin-1') or 'of no stated type'}, and only application/json is read.",
            remedy="Send Content-Type: application/json",
            details={"status": 415},
        )
    return body


def _idempotency_key(headers: dict[bytes, str]) -> str | None:
    key = headers.get(IDEMPOTENCY_KEY.lower().encode())
    if key is not None and not _KEY.match(key):
        raise TreadleError("The Idempotency-Key is not 1 to 200 visible ASCII characters.", remedy="Use an id, such as a UUID.")
    return key


def _event_time(headers: dict[bytes, str]) -> dt.datetime | None:
    text = headers.get(EVENT_TIME.lower().encode())
    if text is None:
        return None
    try:
        moment = msgspec.convert(text, dt.datetime)
    except msgspec.ValidationError as error:
        raise TreadleError(f"{EVENT_TIME} {text!r} is no time.", remedy="Write RFC 3339: 2013-04-01T06:00:00Z") from error
    if moment.tzinfo is None:
        raise TreadleError(f"{EVENT_TIME} {text!r} has no time zone.", remedy="Write RFC 3339 with its zone: 2013-04-01T06:00:00Z")
    return moment


def _unexpected(error: Exception, name: str) -> TreadleError:
    """An error that nobody foresaw: its traceback goes to the log, its number to the caller."""
    number = secrets.token_hex(4)
    log.error("%s failed unexpectedly [%s]", name, number, exc_info=error)
    return TreadleError(
        f"{name} failed unexpectedly ({type(error).__name__}), and nothing of it was kept.",
        remedy=f"The server's log has the whole of it under [{number}]; report it if it comes again.",
        code="internal",
        details={"number": number},
    )


async def _told(_request: Request, error: Exception) -> Response:
    assert isinstance(error, TreadleError)
    status, body = encode(error, 413 if error.details.get("limit") else None)
    return Response(body, status, media_type="application/json")


async def _lost(request: Request, _error: Exception) -> Response:
    lost = TreadleError(
        f"There is nothing for {request.method} at {request.url.path}.", remedy="See /openapi.json for what there is.", code="not_found"
    )
    return Response(encode(lost)[1], 404, media_type="application/json")


async def _broken(request: Request, error: Exception) -> Response:
    status, body = encode(_unexpected(error, f"{request.method} {request.url.path}"))
    return Response(body, status, media_type="application/json")


@functools.cache
def _version() -> bytes:
    return msgspec.json.encode({"name": "treadle", "version": importlib.metadata.version("treadle")})


@functools.cache
def _openapi() -> bytes:
    return msgspec.json.encode(document(importlib.metadata.version("treadle")))
