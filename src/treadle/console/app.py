"""The console as an ASGI application, made from an open home.

It is mounted beside the API, whose guard has checked host, origin and actor by then; mounted alone it acts as the home's own actor, so
that a notebook can show it. Pages run in threads, since operations are plain calls.
"""

import logging
import secrets
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from treadle.console import login, loop, records, search, stations
from treadle.console.desk import HERE, STATUS, Desk, Handler
from treadle.records.errors import TreadleError

log = logging.getLogger("treadle.console")

#: Nothing from outside, no inline script or style, no frame around it, forms to itself only.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    # Not no-referrer: a browser would then send `Origin: null` with the console's own forms.
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


def build_console(workshop: Any) -> Starlette:
    """The console of an open home (`treadle.workshop.Workshop`: `dispatch`, `actor`, `access`)."""

    def page(handler: Handler) -> Callable[[Request], Response]:
        def answer(request: Request) -> Response:
            desk = Desk(workshop, request)
            try:
                return handler(desk)
            except TreadleError as error:
                return _told(desk, error)

        return answer

    async def decide(request: Request) -> Response:
        body = await _form(request)
        return await run_in_threadpool(page(lambda desk: loop.decide(desk, body)), request)

    async def sign_in(request: Request) -> Response:
        body = await _form(request)
        return await run_in_threadpool(page(lambda desk: login.sign_in(desk, body)), request)

    here = "/projects/{project}/{environment}"
    routes: list[BaseRoute] = [
        Mount("/static", StaticFiles(directory=HERE / "static")),
        Route("/", page(loop.home)),
        Route("/login", page(login.form)),
        Route("/login", sign_in, methods=["POST"]),
        Route("/projects", page(loop.home)),
        Route("/projects/{project}", page(loop.project)),
        Route(here, page(loop.page)),
        Route(f"{here}/live", page(loop.live)),
        Route(f"{here}/search", page(search.page)),
        Route(f"{here}/approvals/{{approval_id}}", decide, methods=["POST"]),
        Route(f"{here}/approvals/{{approval_id}}", page(lambda desk: RedirectResponse(f"{desk.base}/registry#approvals", 303))),
        Route(f"{here}/events", page(records.ledger)),
        Route(f"{here}/events/{{event_id}}", page(records.event)),
        Route(f"{here}/runs/{{run_id}}", page(records.run)),
        Route(f"{here}/models/{{model}}/{{number:int}}", page(records.version)),
        Route(f"{here}/releases/{{release_id}}", page(records.release)),
        Route(f"{here}/predictions/{{prediction_id}}", page(records.prediction)),
        Route(f"{here}/{{station}}", page(stations.page)),
    ]

    async def lost(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        missing = TreadleError(f"There is no page {request.url.path}.", remedy="Go to the loop: /", code="not_found")
        return await run_in_threadpool(lambda: _told(Desk(workshop, request), missing, error.status_code))

    async def broken(request: Request, error: Exception) -> Response:
        number = secrets.token_hex(4)
        log.error("%s %s failed unexpectedly [%s]", request.method, request.url.path, number, exc_info=error)
        told = TreadleError(
            f"This page failed unexpectedly ({type(error).__name__}).",
            remedy=f"The server's log has the whole of it under [{number}]; report it if it comes again.",
            code="internal",
        )
        return Response(f"{told.what}\n{told.remedy}\n", 500, media_type="text/plain")

    return Starlette(
        routes=routes,
        middleware=[Middleware(Headers)],
        exception_handlers={404: lost, 405: lost, Exception: broken},
    )


class Headers:
    """Gives every answer the headers that keep a browser from loading, framing or guessing anything."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, adding them."""

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_HEADERS]
            await send(message)

        await self._app(scope, receive, told)


async def _form(request: Request) -> dict[str, str]:
    """The fields of a small urlencoded form.

    Raises:
        HTTPException: 413 for one that no page of the console sends.
    """
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > 65536:
            raise HTTPException(413)
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


def _told(desk: Desk, error: TreadleError, status: int | None = None) -> Response:
    """An error as a page: what, why, remedy."""
    code = status or STATUS.get(error.code, 500)
    if error.code == "unauthenticated":
        return login.to_login(desk.request)
    if desk.request.headers.get("hx-request"):
        return Response(f"{error.what}\n{error.remedy}\n", code, media_type="text/plain")
    try:
        known = any(p.name == desk.project and desk.environment in p.environments for p in desk.projects)
    except TreadleError:
        known = False
    if not known:
        desk = Desk(desk.workshop, desk.request)
        desk.project = desk.environment = ""
    titles = {404: "Not here", 403: "Not allowed", 409: "Not possible now"}
    return desk.page(
        "empty.html",
        status=code,
        title=titles.get(code, "Something went wrong"),
        sentence=error.what,
        lead="What to do",
        commands=error.remedy,
    )
