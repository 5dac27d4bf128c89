"""Removing for good: first what would go and what keeps the rest, then, asked once, the deed. Only an admin's word does it."""

from starlette.responses import RedirectResponse, Response

from treadle.console import words
from treadle.console.asked import Address, Fields
from treadle.console.desk import Desk, check_same_origin
from treadle.console.files import size
from treadle.operations.tracking import RemoveForGood
from treadle.records.errors import TreadleError
from treadle.records.tracking import Removed

_MOST = 1000
_NAMES = (
    ("runs", "run"),
    ("experiments", "experiment"),
    ("logged_models", "logged model"),
    ("models", "model"),
    ("versions", "model version"),
    ("artifacts", "file"),
    ("metric_points", "metric point"),
)


def page(desk: Desk) -> Response:
    """The preview."""
    things = Address.of(desk.request).all("thing", _MOST)
    if not things:
        raise _nothing()
    return _page(desk, things)


def _nothing() -> TreadleError:
    return TreadleError("Nothing is named to be removed.", remedy="Open what is in the bin, and remove it from there.")


def _page(desk: Desk, things: list[str], error: TreadleError | None = None) -> Response:
    found: Removed = desk.call(RemoveForGood(project=desk.project, things=things, preview=True))
    goes = parts(found)
    return desk.page(
        "removal.html",
        status=400 if error else 200,
        sentence=_sentence(found, goes),
        goes=goes,
        found=found,
        freed=size(found.freed_bytes),
        things=things,
        links=[(t, link(desk, t)) for t in found.things],
        possible=bool(goes),
        error=error,
    )


def parts(found: Removed) -> list[str]:
    """What goes, counted: `3 runs`, `12 files`."""
    counted = [(getattr(found, field), name) for field, name in _NAMES]
    return [f"{n:,} {name}{'s' if n != 1 else ''}" for n, name in counted if n]


def _sentence(found: Removed, goes: list[str]) -> str:
    if not goes:
        return "Nothing of this can be removed." if found.kept else "There is nothing left of this to remove."
    stay = len(found.kept)
    kept = f" {stay:,} thing{'s' if stay != 1 else ''} would stay, because something needs them." if stay else ""
    listed = ", ".join(goes[:-1]) + (" and " if len(goes) > 1 else "") + goes[-1]
    return f"{listed} would be removed for good, and {size(found.freed_bytes)} of space come back.{kept} This cannot be undone."


def link(desk: Desk, thing: str) -> str:
    """The page of `run/ID`, `experiment/ID`, `logged-model/ID`, `model/NAME`, `model/NAME/N`."""
    kind, _, rest = thing.partition("/")
    if kind == "run":
        return desk.base + words.path("runs", rest)
    if kind == "experiment":
        return desk.base + words.path("experiments", rest, "runs")
    if kind == "logged-model":
        return desk.base + words.path("logged-models", rest)
    return desk.base + words.path("models", *rest.rsplit("/", 1)) if kind == "model" else ""


def remove(desk: Desk, fields: Fields) -> Response:
    """Do it, if the word was typed."""
    check_same_origin(desk.request)
    things = fields.all("thing")[:_MOST]
    if not things:
        raise _nothing()
    if fields.get("sure") != "yes":
        told = TreadleError("Nothing was removed: the box was not ticked.", remedy="Tick it, then press the button again.")
        return _page(desk, things, told)
    done: Removed = desk.call(RemoveForGood(project=desk.project, things=things, preview=False))
    n = done.runs + done.experiments + done.logged_models + done.models + done.versions
    kind = things[0].partition("/")[0]
    there = {"experiment": "experiments", "model": "models"}.get(kind, "runs")
    return RedirectResponse(f"{desk.base}/{there}?said=removed&done={n}", 303)
