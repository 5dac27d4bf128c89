"""The raw ASGI app: route, guard, read the body, predict, answer.

No framework: a dictionary of paths, one pass over the headers, one JSON decode and one encode. Predictions run on the event loop,
because one costs less than handing it to a thread would; large bodies go to a thread, so that nobody waits behind them. Every
error is an `ErrorBody` with what, why and remedy.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import unquote

import msgspec

from treadle.gateway import native, oip
from treadle.gateway.guard import Guard
from treadle.records.errors import CODES, TreadleError
from treadle.serving.service import Serving

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

#: Error code → HTTP status; every code has one.
STATUS: dict[str, int] = {
    **dict.fromkeys(CODES, 500),
    "bad_request": 400,
    "bad_definition": 400,
    "bad_data": 400,
    "unauthenticated": 401,
    "denied": 403,
    "not_found": 404,
    "conflict": 409,
    "busy": 409,
    "timed_out": 504,
    "unavailable": 503,
    "storage_full": 503,
    "missing_extra": 501,
    "not_implemented": 501,
}
#: Bytes from which a body is handled in a thread, and those that are refused.
THREADED = 256 << 10
BODY_LIMIT = 64 << 20

_VERBS = {"infer": "infer", "ready": "model_ready"}
_PLAIN = {
    "health": "live",
    "v2/health/live": "live",
    "ready": "ready",
    "v2/health/ready": "ready",
    "v2": "server",
    "metrics": "metrics",
}
_encode = msgspec.json.Encoder().encode
_JSON = (b"content-type", b"application/json")
_TEXT = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")


class Gateway:
    """One worker's app.

    Args:
        serving: what answers.
        guard: whom to let in.
        durable: answer only after the record is on disk.
        version: told by `GET /v2`.
        life: called with True when the server starts and False when it has answered its last request.
    """

    def __init__(
        self,
        serving: Serving,
        guard: Guard,
        *,
        durable: bool = False,
        version: str = "",
        life: Callable[[bool], Awaitable[None]] | None = None,
    ):
        self.serving = serving
        self.guard = guard
        self.durable = durable
        self.version = version
        self._life = life
        self._routes: dict[str, tuple[str, str, str]] = {}
        #: Paths of predictions that `answer` may be called for, as they stand in the request line.
        self.quick: dict[bytes, tuple[str, str, str]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1003})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter_ns()
        path = scope["path"]
        kind, name, version = self._routes.get(path) or self._route(path)
        status, content_type, request_id, seen = 200, _JSON, "", False
        try:
            length, request_id = self.guard.check(scope["headers"])
            if length > BODY_LIMIT:
                raise _too_large(length)
            if scope["method"] == "POST":
                body = await _body(receive)
                if body is None:
                    return
                if kind == "predict" or kind == "infer":
                    act = self._predict if kind == "predict" else self._infer
                    seen = True
                    if len(body) < THREADED:
                        answer = act(name, version, body, request_id, started)
                    else:
                        answer = await asyncio.to_thread(act, name, version, body, request_id, started)
                    if self.durable:
                        await self._on_disk()
                else:
                    raise _no_route("POST", path)
            else:
                answer, content_type = self._get(scope["method"], kind, name, version, path)
        except TreadleError as error:
            status, answer = self._refused(error, kind, name, request_id, started, logged=seen, v2=path.startswith("/v2"))
        await send({"type": "http.response.start", "status": status, "headers": [content_type, (b"content-length", b"%d" % len(answer))]})
        await send({"type": "http.response.body", "body": answer})

    def answer(self, route: tuple[str, str, str], headers: Headers, body: bytes) -> tuple[int, bytes]:
        """Answer a small prediction at once, without ASGI: status and JSON body. For paths in `quick` only."""
        started = time.perf_counter_ns()
        kind, name, version = route
        request_id, seen = "", False
        try:
            _, request_id = self.guard.check(headers)
            seen = True
            return 200, (self._predict if kind == "predict" else self._infer)(name, version, body, request_id, started)
        except TreadleError as error:
            return self._refused(error, kind, name, request_id, started, logged=seen, v2=kind == "infer")

    def _predict(self, name: str, version: str, body: bytes, request_id: str, started: int) -> bytes:
        try:
            self.serving.endpoint(name)
            parsed = native.parse(body)
        except TreadleError as error:
            self.serving.reject(name, error, request_id=request_id, started=started)
            raise
        return _encode(self.serving.predict(name, parsed.columns, parsed.times, parsed.ids, request_id=request_id, started=started))

    def _infer(self, name: str, version: str, body: bytes, request_id: str, started: int) -> bytes:
        try:
            served = self.serving.endpoint(name)
            _check_version(served, version)
            request = oip.parse(body, served)
        except TreadleError as error:
            self.serving.reject(name, error, request_id=request_id, started=started)
            raise
        answer = self.serving.predict(
            name, request.parsed.columns, request.parsed.times, request_id=request.id or request_id, started=started
        )
        return oip.answer(request, served, answer)

    def _get(self, method: str, kind: str, name: str, version: str, path: str) -> tuple[bytes, tuple[bytes, bytes]]:
        serving = self.serving
        if method not in ("GET", "HEAD"):
            raise _no_route(method, path)
        if kind == "live":
            return b'{"live":true}', _JSON
        if kind == "ready":
            if serving.generation is None:
                raise TreadleError("This gateway has no snapshot yet.", remedy="Release a model: treadle release start", code="unavailable")
            return _encode({"ready": True, "generation": serving.generation.number}), _JSON
        if kind == "server":
            return _encode({"name": "treadle", "version": self.version, "extensions": []}), _JSON
        if kind == "metrics":
            return self._metrics(), _TEXT
        if kind == "model":
            served = serving.endpoint(name)
            _check_version(served, version)
            return _encode(oip.metadata(served)), _JSON
        if kind == "model_ready":
            served = serving.endpoint(name)
            _check_version(served, version)
            oip.metadata(served)
            return _encode({"name": name, "ready": True}), _JSON
        raise _no_route(method, path)

    def _metrics(self) -> bytes:
        log, generation = self.serving.log, self.serving.generation
        return self.serving.metrics.render(
            {
                "generation": -1.0 if generation is None else generation.number,
                "log_records": log.records,
                "log_bytes": log.bytes,
                "log_lag_seconds": log.lag_s(),
                "log_failed_syncs": log.failed_syncs,
            }
        )

    def _refused(
        self, error: TreadleError, kind: str, name: str, request_id: str, started: int, *, logged: bool, v2: bool
    ) -> tuple[int, bytes]:
        status = error.details.get("status") or STATUS[error.code]
        if error.code in ("denied", "unauthenticated"):  # counted, but strangers do not write into the log
            self.serving.metrics.observe("", status, 0, (time.perf_counter_ns() - started) / 1e9)
        elif not logged and kind in ("predict", "infer"):
            self.serving.reject(name, error, request_id=request_id, started=started, status=status)
        return status, oip.refusal(error) if v2 else _encode(error.body())

    async def _on_disk(self) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def settle(error: Exception | None) -> None:
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(_not_durable(error))

        self.serving.log.when_durable(lambda error: loop.call_soon_threadsafe(settle, error) and None)
        await done

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            starting = message["type"] == "lifespan.startup"
            if self._life is not None:
                await self._life(starting)
            await send({"type": f"{message['type']}.complete"})
            if not starting:
                return

    def _route(self, path: str) -> tuple[str, str, str]:
        """What a path means: kind, name, version. Known names are remembered; others are not, so that nobody can fill the memory."""
        route = _route(path)
        generation = self.serving.generation
        if generation is not None and route[1] in generation.endpoints and len(self._routes) < 4096:
            self._routes[path] = route
            if route[0] in ("predict", "infer") and not self.durable and path.isascii():
                self.quick[path.encode()] = route
        return route


def _route(path: str) -> tuple[str, str, str]:
    parts = [unquote(part) for part in path.strip("/").split("/")]
    match parts:
        case ["v2", "models", name, "versions", version]:
            return "model", name, version
        case ["v2", "models", name, "versions", version, verb]:
            return _VERBS.get(verb, ""), name, version
        case ["v2", "models", name] | ["endpoints", name]:
            return "model", name, ""
        case ["v2", "models", name, verb]:
            return _VERBS.get(verb, ""), name, ""
        case ["endpoints", name, "predict"]:
            return "predict", name, ""
        case _:
            return _PLAIN.get("/".join(parts), ""), "", ""


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None where the caller hung up before its end."""
    message = await receive()
    body = message.get("body")
    if body is None or not message.get("more_body"):
        return body
    parts, size = [body], len(body)
    while message.get("more_body"):
        message = await receive()
        part = message.get("body")
        if part is None:
            return None
        size += len(part)
        if size > BODY_LIMIT:
            raise _too_large(size)
        parts.append(part)
    return b"".join(parts)


def _check_version(served: Any, version: str) -> None:
    there = [str(m.variant.model_version) for m in (served.champion, served.challenger) if m is not None]
    if version and version not in there[:1]:
        raise TreadleError(
            f"{served.name} is not served in version {version[:20]}: the release decides which version answers.",
            remedy=f"Leave the version out; the champion is {there[0] if there else 'not released yet'}.",
            code="not_found",
        )


def _too_large(size: int) -> TreadleError:
    return TreadleError(
        f"The body has more than {BODY_LIMIT >> 20} MB.",
        remedy="Send it in several requests.",
        details={"status": 413, "limit": BODY_LIMIT, "given": size},
    )


def _no_route(method: str, path: str) -> TreadleError:
    return TreadleError(
        f"There is no {method} {path[:200]} here.",
        remedy="POST /endpoints/NAME/predict, POST /v2/models/NAME/infer; GET /v2/health/ready, /v2/models/NAME, /metrics.",
        code="not_found",
    )


def _not_durable(error: Exception) -> TreadleError:
    return TreadleError(
        f"The prediction was made but its record could not be put on disk: {error}.",
        remedy="Look at the disk that holds the home: treadle doctor",
        code="unavailable",
    )
