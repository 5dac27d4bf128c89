"""What stands before every request: whose page sent it, how big it is, who it runs as.

*Host* keeps a foreign name that somebody pointed at this machine (DNS rebinding) from reaching it. *Origin* keeps another site's
page from using the reader's browser. On loopback whoever can connect is the owner of the home, unless a token says otherwise;
beyond it every request needs a token (`Authorization: Bearer trd_…`, or the console's cookie). A browser that brings none is sent to
the console's login, which leads back; a program is told so in JSON.
"""

import base64
import ipaddress
import logging
import re
import socket
from collections.abc import Callable, Iterable, Sequence
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import quote, urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from treadle.api.errors import encode
from treadle.api.waiting import in_thread
from treadle.client.wire import PREFIX
from treadle.records.calls import Actor
from treadle.records.errors import TreadleError

log = logging.getLogger("treadle.api")

#: Anybody may ask these: they say nothing of the home.
OPEN = ("/health", "/version", "/openapi.json")
#: The cookie that carries a person's token to the console.
COOKIE = "treadle_token"
#: Where a browser signs in.
LOGIN = "/login"
MAX_BODY = 32 * 1024 * 1024
#: Bytes of a file, which is never held in memory.
MAX_UPLOAD = 1 << 40
#: Requests (all PUT) whose body is such a file.
_UPLOADS = re.compile(r"/files/|(/mlflow/[^/]+)?/(ajax-)?api/2\.0/mlflow-artifacts/(artifacts|mpu)/")

#: How many Host headers that were found good are not looked at again.
_REMEMBERED = 1000

Headers = Sequence[tuple[bytes, bytes]]


class Guard:
    """ASGI middleware: refuses what must not come in, and says who the rest runs as (`scope["state"]["actor"]`).

    Args:
        app: what is guarded.
        authenticate: token → actor; raises `unauthenticated`.
        nobody: who a request without a token runs as; None where every request needs one.
        names: host names, besides loopback's, that this server answers to.
        addresses: answer to any bare IP address too (a server that listens beyond loopback).
        max_body: bytes that a request may bring.
        max_upload: bytes that one may bring whose body is a file.
        open_prefixes: paths served to anybody (the console's login and static files).
        told: status and body of an error, by the path it is told to; None for the usual form.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        authenticate: Callable[[str], Actor],
        nobody: Actor | None,
        names: Iterable[str] = (),
        addresses: bool = False,
        max_body: int = MAX_BODY,
        max_upload: int = MAX_UPLOAD,
        open_prefixes: tuple[str, ...] = (LOGIN, "/static/"),
        told: Callable[[str, TreadleError], tuple[int, bytes] | None] | None = None,
    ):
        self._app = app
        self._authenticate = authenticate
        self._nobody = nobody
        self._names = {name.lower() for name in names}
        self._addresses = addresses
        self._max_body = max_body
        self._max_upload = max_upload
        self._open_prefixes = open_prefixes
        self._told = told
        self._welcome: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Guard one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers: Headers = scope["headers"]
        limit = self._max_upload if is_upload(scope["method"], scope["path"]) else self._max_body
        try:
            given = _looked_at(headers)
            self._check_host(given.get(b"host", ""))
            self._check_origin(scope["method"], given)
            _check_size(given, limit)
            actor = self._nobody
            if actor is None or b"authorization" in given or b"cookie" in given:
                actor = await self._actor(scope["path"], headers)
        except TreadleError as error:
            status, more = (413 if error.details.get("limit") else None), ()
            if error.code == "unauthenticated" and reads_pages(scope["path"], headers):
                status, more = _to_login(scope, headers)
            own = self._told(scope["path"], error) if self._told is not None else None
            await answer(send, *(own or encode(error, status)), close=True, method=scope["method"], more=more)
            return
        scope.setdefault("state", {})["actor"] = actor
        await self._app(scope, _limited(receive, limit), send)

    def _check_host(self, host: str) -> None:
        if host in self._welcome:
            return
        name = host_name(host)
        if name in self._names or is_loopback(name) or (self._addresses and is_address(name)):
            if len(self._welcome) < _REMEMBERED:
                self._welcome.add(host)
            return
        raise TreadleError(
            f"This server does not answer to the host name {name!r}.",
            remedy=f"Call it by the address it listens on, or start it with --allow-host {name or 'NAME'}",
            code="denied",
            details={"host": host},
        )

    def _check_origin(self, method: str, given: dict[bytes, str]) -> None:
        origin, site = given.get(b"origin", ""), given.get(b"sec-fetch-site", "")
        foreign = bool(origin) and urlsplit(origin).netloc.lower() != given.get(b"host", "").lower()
        if foreign or (site in ("cross-site", "same-site") and method not in ("GET", "HEAD")):
            raise TreadleError(
                f"A page of {origin or 'another site'} may not call this server.",
                remedy="Call it from its own console, from the command line, or from a program (which sends no Origin).",
                code="denied",
                details={"origin": origin},
            )

    async def _actor(self, path: str, headers: Headers) -> Actor | None:
        token = bearer(headers) or basic(headers) or cookie(headers)
        if token:
            try:
                return await in_thread(self._authenticate, token)
            except TreadleError:
                if not path.startswith(self._open_prefixes) and path not in OPEN:
                    raise
                return None
        if self._nobody is None and path not in OPEN and not path.startswith(self._open_prefixes):
            raise TreadleError(
                "This server wants to know who calls, and the request brought no token.",
                remedy="Send Authorization: Bearer TOKEN (command line: TREADLE_TOKEN); an admin issues one: treadle token add NAME",
                code="unauthenticated",
            )
        return self._nobody


def is_upload(method: str, path: str) -> bool:
    """Whether a request's body is a file, which may be large because it is stored as it comes.

    >>> is_upload("PUT", "/files/p/run_1/model.bin"), is_upload("POST", "/api/projects"), is_upload("PUT", "/api/projects/p/views/v")
    (True, False, False)
    """
    return method == "PUT" and _UPLOADS.match(path) is not None


def too_large(limit: int) -> TreadleError:
    """The error of a body over the limit."""
    return TreadleError(
        f"The request is larger than {limit:,} bytes.",
        remedy="Send it in parts (metrics: fewer a call; files: treadle data ingest, or PUT /files/…).",
        details={"limit": limit},
    )


def _check_size(given: dict[bytes, str], limit: int) -> None:
    length = given.get(b"content-length", "")
    if length.isdigit() and int(length) > limit:
        raise too_large(limit)


def _limited(receive: Receive, limit: int) -> Receive:
    seen = 0

    async def counted() -> Any:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise too_large(limit)
        return message

    return counted


async def answer(
    send: Send, status: int, body: bytes, *, close: bool = False, method: str = "GET", allow: str = "", more: Headers = ()
) -> None:
    """Send a JSON answer; `more` are headers of its own."""
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        *more,
    ]
    if close:
        headers.append((b"connection", b"close"))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if allow:
        headers.append((b"allow", allow.encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})


def reads_pages(path: str, headers: Headers) -> bool:
    """Whether a request is a browser's for a page of the console, and not a program's.

    >>> reads_pages("/projects", [(b"accept", b"text/html,*/*;q=0.8")]), reads_pages("/projects", [(b"accept", b"*/*")])
    (True, False)
    """
    programs = path in OPEN or path == PREFIX or path.startswith(f"{PREFIX}/") or bearer(headers)
    return not programs and "text/html" in _one(headers, b"accept").lower()


def _to_login(scope: Scope, headers: Headers) -> tuple[int, Headers]:
    """(status, headers) that lead to the login and, from there, back to the page. What htmx asks for is a part of a page: it is told to
    take the whole page there."""
    if _one(headers, b"hx-request"):
        page = urlsplit(_one(headers, b"hx-current-url"))
        return 401, [(b"hx-redirect", _login(page.path, page.query))]
    path = (scope.get("raw_path") or quote(scope["path"]).encode()).decode("latin-1")
    return 303, [(b"location", _login(path, scope["query_string"].decode("latin-1")))]


def _login(path: str, query: str) -> bytes:
    came = f"{path}?{query}" if query else path
    return (LOGIN if came in ("", "/") else f"{LOGIN}?next={quote(came, safe='/')}").encode()


def bearer(headers: Headers) -> str:
    """The bearer token of a request, empty where there is none."""
    scheme, _, token = _one(headers, b"authorization").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def basic(headers: Headers) -> str:
    """The token that is the password of HTTP Basic, whatever the name; empty where there is none.

    >>> basic([(b"authorization", b"Basic bWlhOnRyZF94")])
    'trd_x'
    """
    scheme, _, given = _one(headers, b"authorization").partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(given.strip(), validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


def cookie(headers: Headers) -> str:
    """The console's token, empty where there is none."""
    raw = _one(headers, b"cookie")
    if COOKIE not in raw:
        return ""
    try:
        morsel = SimpleCookie(raw).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel else ""


def host_name(host: str) -> str:
    """The name in a Host header, without port and brackets, lower case.

    >>> host_name("[::1]:8400"), host_name("LocalHost:80"), host_name("")
    ('::1', 'localhost', '')
    """
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rsplit(":", 1)[0] if host.count(":") == 1 else host


def is_address(name: str) -> bool:
    """Whether it is a bare IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(name: str) -> bool:
    """Whether a host name or address can only mean this machine.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    return name == "localhost" or (is_address(name) and ipaddress.ip_address(name).is_loopback)


def own_names() -> tuple[str, ...]:
    """The names that this machine calls itself."""
    name = socket.gethostname().lower()
    return (name, name.partition(".")[0])


#: Headers that a guard looks at, and those of them that a request may have once only.
_ONCE = frozenset((b"host", b"origin", b"authorization", b"content-length"))
_LOOKED_AT = _ONCE | {b"sec-fetch-site", b"cookie"}


def _looked_at(headers: Headers) -> dict[bytes, str]:
    """The headers that decide, in one walk over all of them; of one given several times the first."""
    found: dict[bytes, str] = {}
    for name, value in headers:
        if name in _LOOKED_AT:
            if name not in found:
                found[name] = value.decode("latin-1")
            elif name in _ONCE:
                raise _twice(name)
    return found


def _one(headers: Headers, name: bytes) -> str:
    values = [value for key, value in headers if key == name]
    if len(values) > 1 and name in _ONCE:
        raise _twice(name)
    return values[0].decode("latin-1") if values else ""


def _twice(name: bytes) -> TreadleError:
    return TreadleError(f"The header {name.decode()} is given twice.", remedy="Send it once.")
