"""Signing in where a server wants a token: a form, and a cookie that scripts and other sites cannot use. Who was sent here from
a page comes back to it."""

import re
from urllib.parse import quote, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from treadle.console.desk import Desk, check_same_origin
from treadle.records.errors import TreadleError

#: The cookie that the guard in front of the console reads.
COOKIE = "treadle_token"
#: Visible characters but the backslash, which browsers read as a slash; they pass over tabs and line ends.
_PLAIN = re.compile(r"[!-\[\]-~]*")


def form(desk: Desk) -> Response:
    """The form."""
    return _form(desk, None, own_path(desk.request.query_params.get("next", "")))


def sign_in(desk: Desk, body: dict[str, str]) -> Response:
    """Take the token if it is somebody's."""
    check_same_origin(desk.request)
    token, back = body.get("token", "").strip(), own_path(body.get("next", ""))
    try:
        desk.workshop.access.authenticate(token)
    except TreadleError as error:
        return _form(desk, error, back)
    answer = RedirectResponse(back, 303)
    secure = desk.request.url.scheme == "https"
    answer.set_cookie(COOKIE, token, max_age=12 * 3600, path="/", httponly=True, samesite="strict", secure=secure)
    return answer


def to_login(request: Request) -> Response:
    """To the form, and from there back to the page that was asked for."""
    asked = own_path(request.url.path + (f"?{request.url.query}" if request.url.query else ""))
    return RedirectResponse("/login" if asked == "/" else f"/login?next={quote(asked, safe='/')}", 303)


def own_path(address: str) -> str:
    """The address where it is a path (and query) of this console; `/` where it is another site's, the login's own, or no address.

    >>> own_path("/projects/flights/prod?metric=brier"), own_path("https://evil.example/"), own_path("//evil.example")
    ('/projects/flights/prod?metric=brier', '/', '/')
    >>> own_path("/\\\\evil.example"), own_path("/\\t/evil.example"), own_path("projects"), own_path("/login?next=/")
    ('/', '/', '/', '/')
    """
    if not _PLAIN.fullmatch(address) or not address.startswith("/") or address.startswith("//"):
        return "/"
    return "/" if urlsplit(address).path == "/login" else address


def _form(desk: Desk, error: TreadleError | None, back: str) -> Response:
    desk.project = desk.environment = ""
    desk.__dict__["projects"] = []  # nobody has signed in yet: the frame shows nothing of the home
    return desk.page("login.html", status=401 if error else 200, error=error, back=back)
