"""Signing in where a server wants a token: a form, and a cookie that scripts and other sites cannot use."""

from starlette.responses import RedirectResponse, Response

from treadle.console.desk import Desk, check_same_origin
from treadle.records.errors import TreadleError

#: The cookie that the guard in front of the console reads.
COOKIE = "treadle_token"


def form(desk: Desk) -> Response:
    """The form."""
    return _form(desk, None)


def sign_in(desk: Desk, body: dict[str, str]) -> Response:
    """Take the token if it is somebody's."""
    check_same_origin(desk.request)
    token = body.get("token", "").strip()
    try:
        desk.workshop.access.authenticate(token)
    except TreadleError as error:
        return _form(desk, error)
    answer = RedirectResponse("/", 303)
    secure = desk.request.url.scheme == "https"
    answer.set_cookie(COOKIE, token, max_age=12 * 3600, path="/", httponly=True, samesite="strict", secure=secure)
    return answer


def _form(desk: Desk, error: TreadleError | None) -> Response:
    desk.project = desk.environment = ""
    desk.__dict__["projects"] = []  # nobody has signed in yet: the frame shows nothing of the home
    return desk.page("login.html", status=401 if error else 200, error=error)
