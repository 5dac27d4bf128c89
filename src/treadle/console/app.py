"""The console as an ASGI application, made from an open home.

It is mounted beside the API, whose guard has checked host, origin and actor by then; mounted alone it acts as the home's own actor, so
that a notebook can show it. Pages run in threads, since operations are plain calls.
"""

import functools
import logging
import secrets
from collections.abc import Awaitable, Callable
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

from treadle.console import (
    compare,
    experiments,
    exports,
    files,
    insides,
    login,
    loop,
    models,
    records,
    removals,
    retention,
    run,
    runs,
    search,
    stations,
    version,
    webhooks,
)
from treadle.console.asked import Fields, read_form
from treadle.console.desk import HERE, STATUS, Desk, Handler
from treadle.records.errors import TreadleError

log = logging.getLogger("treadle.console")

#: Nothing from outside, no inline script or style, no frame around it, forms to itself only.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "frame-src 'self'; base-uri 'none'; frame-ancestors 'none'"
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

    def sent(handler: Callable[[Desk, Fields], Response]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            fields = await read_form(request)
            return await run_in_threadpool(page(lambda desk: handler(desk, fields)), request)

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
        *(Route(f"/{name}", page(functools.partial(loop.shortcut, name))) for name in ("experiments", "runs", "models")),
        *(Route(f"/{kind}/{{name:path}}", page(loop.logged)) for kind in ("experiments", "runs", "models", "logged-models")),
        *(Route(f"/mlflow/{{project}}{end}", page(loop.tracking)) for end in ("", "/")),
        *(
            Route(f"/mlflow/{{project}}/{kind}{end}", page(loop.logged))
            for kind in ("experiments", "runs", "models", "logged-models")
            for end in ("", "/{name:path}")
        ),
        Route("/projects/{project}", page(loop.project)),
        Route(here, page(loop.page)),
        Route(f"{here}/live", page(loop.live)),
        Route(f"{here}/search", page(search.page)),
        Route(f"{here}/approvals/{{approval_id}}", decide, methods=["POST"]),
        Route(f"{here}/approvals/{{approval_id}}", page(lambda desk: RedirectResponse(f"{desk.base}/registry#approvals", 303))),
        Route(f"{here}/events", page(records.ledger)),
        Route(f"{here}/events/{{event_id}}", page(records.event)),
        *_tracking(here, page, sent),
        *_models(here, page, sent),
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


Page = Callable[[Handler], Callable[[Request], Response]]
Sent = Callable[[Callable[[Desk, Fields], Response]], Callable[[Request], Awaitable[Response]]]


def _tracking(here: str, page: Page, sent: Sent) -> list[BaseRoute]:
    """Pages of experiments, runs and files."""
    experiment = f"{here}/experiments/{{experiment_id}}"
    one, model = f"{here}/runs/{{run_id}}", f"{here}/logged-models/{{model_id}}"
    made: list[BaseRoute] = [
        Route(f"{here}/experiments", page(experiments.page)),
        Route(f"{here}/experiments", sent(experiments.create), methods=["POST"]),
        Route(experiment, page(lambda desk: RedirectResponse(f"{desk.request.url.path}/runs", 303))),
        Route(experiment, sent(experiments.change), methods=["POST"]),
        Route(f"{here}/runs", sent(runs.act), methods=["POST"]),
        Route(f"{here}/views", sent(runs.views), methods=["POST"]),
        Route(f"{here}/history", page(exports.history)),
        Route(f"{here}/compare", page(compare.page)),
        Route(f"{here}/removals", page(removals.page)),
        Route(f"{here}/removals", sent(removals.remove), methods=["POST"]),
        Route(f"{here}/removals/retention", page(retention.page)),
        Route(f"{here}/removals/retention", sent(retention.change), methods=["POST"]),
        Route(one, page(run.page)),
        Route(one, sent(run.change), methods=["POST"]),
        Route(f"{one}/live", page(run.live)),
        Route(f"{one}/rest", page(run.rest)),
        Route(f"{one}/diagnosis", page(insides.diagnosis)),
        Route(f"{one}/insides", page(insides.page)),
        Route(model, page(run.logged_model)),
    ]
    for listing in (f"{here}/runs", f"{experiment}/runs"):
        made += [
            Route(listing, page(runs.page)),
            Route(f"{listing}.csv", page(exports.as_csv)),
            Route(f"{listing}.ipynb", page(exports.as_notebook)),
            Route(f"{listing}.json", page(exports.as_columns)),
        ]
    for owner in (one, model):
        made += [
            Route(f"{owner}/files", page(files.page)),
            Route(f"{owner}/files/{{path:path}}", page(files.page)),
            Route(f"{owner}/raw/{{path:path}}", page(files.raw)),
        ]
    return made


def _models(here: str, page: Page, sent: Sent) -> list[BaseRoute]:
    """Pages of models and their versions."""
    one = f"{here}/models/{{model}}"
    numbered = f"{one}/{{number:int}}"
    return [
        Route(f"{here}/models", page(models.page)),
        Route(f"{here}/models", sent(models.create), methods=["POST"]),
        Route(f"{here}/webhooks", page(webhooks.page)),
        Route(f"{here}/webhooks", sent(webhooks.change), methods=["POST"]),
        Route(one, page(models.model)),
        Route(one, sent(models.change), methods=["POST"]),
        Route(f"{one}/compare", page(models.compare)),
        Route(numbered, page(version.page)),
        Route(numbered, sent(version.change), methods=["POST"]),
        Route(f"{numbered}/card.{{format}}", page(version.card)),
        Route(f"{numbered}/bundle/{{path:path}}", page(version.bundle_file)),
    ]


class Headers:
    """Gives every answer the headers that keep a browser from loading, framing or guessing anything; the frame of an uploaded page has
    some of its own, stricter where it matters."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, adding them."""

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = message.get("headers", [])
                names = {name.lower() for name, _ in own}
                message["headers"] = [*own, *((name, value) for name, value in _HEADERS if name not in names)]
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
        known = any(p.name == desk.project and desk.environment in p.environments for p in desk.projects) or desk.tracked
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
