"""One request's desk: who asks, about which project and environment, and how the answer becomes a page.

A page asks operations as the request's own actor, so that the console shows and does nothing that the API would refuse. Every page
stands in the same frame: the stations in the order in which data walks, the project, the environment and the business time.
"""

import datetime as dt
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import jinja2
import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from treadle.console import words
from treadle.console.prose import prose
from treadle.console.ring import clip
from treadle.operations.workshop import GetOverview, ListProjects, Overview, ProjectSummary, Station
from treadle.records.calls import Actor
from treadle.records.errors import TreadleError

T = TypeVar("T")
HERE = Path(__file__).parent
#: The nine stations in street order, and what each page is about.
STATIONS = ("data", "features", "training", "evaluation", "packaging", "registry", "release", "serving", "monitoring")
#: What was recorded, whatever station made it.
RECORDS = (("Experiments", "experiments"), ("Runs", "runs"), ("Models", "models"))
#: Pages that stand under an entry of the navigation, beside those whose addresses begin with its own.
_UNDER = {"Runs": ("compare", "removals"), "Models": ("webhooks", "logged-models"), "Release": ("releases",), "Serving": ("predictions",)}
STATUS = {"bad_request": 400, "unauthenticated": 401, "denied": 403, "not_found": 404, "conflict": 409, "busy": 423, "unavailable": 503}


class Desk:
    """What a page works at.

    Args:
        workshop: the open home (`treadle.workshop.Workshop`): its `dispatch`, and its `actor` where nobody guards the way in.
        request: the request.
    """

    def __init__(self, workshop: Any, request: Request):
        self.workshop = workshop
        self.request = request
        self.project: str = request.path_params.get("project", "")
        self.environment: str = request.path_params.get("environment", "")

    @property
    def base(self) -> str:
        """The path that all pages of this project and environment begin with."""
        return words.path("projects", self.project, self.environment)

    @property
    def actor(self) -> Actor:
        """Who asks: the one that the guard in front has found; the home's own where there is no guard."""
        state = self.request.scope.get("state") or {}
        found = state.get("actor") if "actor" in state else self.workshop.actor
        if found is None:
            raise TreadleError("The console wants to know who asks.", remedy="Sign in with a token: /login", code="unauthenticated")
        return found

    def call(self, request: Any, *, event_time: dt.datetime | None = None) -> Any:
        """Run an operation as the request's actor."""
        return self.workshop.dispatch(request, actor=self.actor, event_time=event_time)

    def maybe(self, request: Any) -> Any:
        """The same, None where there is no such thing."""
        try:
            return self.call(request)
        except TreadleError as error:
            if error.code != "not_found":
                raise
            return None

    @functools.cached_property
    def projects(self) -> list[ProjectSummary]:
        """All projects."""
        return self.call(ListProjects())

    @functools.cached_property
    def overview(self) -> Overview | None:
        """The loop that the page belongs to; None where nothing is applied."""
        if not self.project:
            return None
        endpoint = self.request.query_params.get("endpoint", "")
        return self.maybe(GetOverview(project=self.project, environment=self.environment, endpoint=endpoint))

    @functools.cached_property
    def tracked(self) -> bool:
        """Whether scripts have logged runs to a project that is applied nowhere: it has pages all the same."""
        return any(p.name == self.project and not p.environments for p in self.projects)

    @property
    def now(self) -> dt.datetime:
        """Business time."""
        return self.overview.now if self.overview else dt.datetime.now(dt.UTC)

    @property
    def replayed(self) -> dt.datetime | None:
        """Where a replay's business time stands; None where time is the machine's."""
        return self.overview.now if self.overview and self.overview.virtual else None

    def fragment(self, template: str, **context: Any) -> str:
        """The HTML of a part of a page, without its frame."""
        bare = {"base": self.base, "project": self.project, "environment": self.environment, "now": self.now, "static": static_path}
        return templates().get_template(template).render({**bare, **context})

    def swapped(self, html: str, *, status: int = 200) -> Response:
        """A part of a page that the browser asks for again and again; 304 where it has it already."""
        seen = version_of(html)
        if self.request.headers.get("if-none-match", "").strip('"') == seen and status == 200:
            return Response(status_code=304)
        return Response(html, status, media_type="text/html", headers={"cache-control": "no-store", "etag": f'"{seen}"'})

    def page(self, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
        """A page in its frame."""
        return HTMLResponse(self.render(template, **context), status, headers={"cache-control": "no-store"})

    def render(self, template: str, **context: Any) -> str:
        """The HTML of a page."""
        seen = self.overview
        frame = {
            "project": self.project,
            "environment": self.environment,
            "base": self.base if self.project and self.environment else "",
            "overview": seen,
            "now": self.now,
            "projects": self.projects,
            "nav": _nav(self.base, seen, self.request.url.path) if self.project else [],
            "q": self.request.query_params.get("q", ""),
            "environments": next((p.environments for p in self.projects if p.name == self.project), []),
            "endpoints": next((p.endpoints for p in self.projects if p.name == self.project), []),
            "static": static_path,
            "fragment": False,
        }
        return templates().get_template(template).render({**frame, **context})


Handler = Callable[[Desk], Response]


def check_same_origin(request: Request) -> None:
    """Raises `denied` unless a form was sent by a page of this console: browsers say so in `Origin` or `Sec-Fetch-Site`, and a form
    that says neither comes from no console page."""
    origin = request.headers.get("origin")
    host = request.headers.get("host", "").lower()
    own = urlsplit(origin).netloc.lower() == host if origin else request.headers.get("sec-fetch-site") == "same-origin"
    if not own or not host:
        raise TreadleError(
            "This form was not sent from the console itself, so nothing was done.",
            remedy="Open the console and send the form from there; programs use the API, people the command line: treadle approve ID",
            code="denied",
        )


@functools.cache
def templates() -> jinja2.Environment:
    """The templates: everything escaped, nothing undefined passed over."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    said = (words.count, words.metric, words.points, words.percent, words.span, words.moment, words.day, words.ago, words.short, words.fact)
    made.filters.update({f.__name__: f for f in said})
    made.filters.update(clip=clip, prose=prose, tone=words.tone, say=words.say, event_tone=words.event_tone, short_type=words.short_type)
    made.globals.update(path=words.path, subject_path=words.subject_path, states=words.STATES)
    return made


@functools.cache
def static_path(name: str) -> str:
    """The address of a static file; it changes with the file, so that a browser may keep what it has."""
    content = (HERE / "static" / name).read_bytes()
    return f"/static/{name}?v={hashlib.blake2s(content, digest_size=6).hexdigest()}"


def version_of(html: str) -> str:
    """What tells a part of a page from the same part before."""
    return hashlib.blake2s(html.encode(), digest_size=10).hexdigest()


def plain(value: Any) -> Any:
    """A record as dicts and lists, times kept."""
    return msgspec.to_builtins(value, builtin_types=(dt.datetime,))


def _nav(base: str, seen: Overview | None, here: str) -> list[dict[str, Any]]:
    stations: dict[str, Station] = {s.name.lower(): s for s in seen.stations} if seen else {}
    entries: list[dict[str, Any]] = [{"name": "Loop", "href": base, "state": None, "badge": 0}]
    for slug in STATIONS:
        station = stations.get(slug)
        badge = len(seen.waiting) if seen and slug == "registry" else 0
        entries.append(
            {"name": slug.capitalize(), "href": f"{base}/{slug}", "state": station.state if station else "quiet", "badge": badge}
        )
    for name, slug in RECORDS:
        entries.append({"name": name, "href": f"{base}/{slug}", "state": None, "badge": 0})
    entries.append({"name": "Ledger", "href": f"{base}/events", "state": None, "badge": 0})
    for entry in entries:
        entry["first"] = entry["name"] == RECORDS[0][0]
        roots = [entry["href"], *(f"{base}/{name}" for name in _UNDER.get(entry["name"], ()))] if entry["name"] != "Loop" else []
        inside = any(f"{here}/".startswith(f"{root}/") for root in roots)
        entry["current"] = here.rstrip("/") == entry["href"] or (entry["name"] == "Loop" and here == f"{base}/live") or inside
    return entries
