"""Experiments: folders, search, what is newest; and making, renaming, moving, tagging, binning and restoring one."""

import datetime as dt
import re
from collections import Counter
from typing import Any

from msgspec import Struct
from starlette.responses import RedirectResponse, Response

from treadle.console import listing as listings
from treadle.console import words
from treadle.console.asked import Address, Fields
from treadle.console.desk import Desk, check_same_origin
from treadle.console.notices import notice
from treadle.operations.tracking import (
    BinExperiment,
    CreateExperiment,
    Experiments,
    SearchExperiments,
    SearchRuns,
    SetExperimentTags,
    TrackedRuns,
    UpdateExperiment,
)
from treadle.records.errors import TreadleError
from treadle.records.ids import new_id
from treadle.records.tracking import Experiment, View

_COMMAND = 'import mlflow\nmlflow.set_tracking_uri("{url}")\nmlflow.set_experiment("my-experiment")'
_MARKS = re.compile(r"[*`#]")
_PAGE = 50
#: Experiments that the tree of folders is made from, newest first.
_FOLDERS = 1000
#: Runs of an experiment that are counted; then it says "more".
_COUNTED = 100


class Folder(Struct, frozen=True, kw_only=True):
    """A folder of the tree."""

    path: str
    name: str
    depth: int
    count: int
    href: str
    current: bool


class Line(Struct, frozen=True, kw_only=True):
    """An experiment of the list."""

    experiment: Experiment
    href: str
    runs: str
    newest: dt.datetime | None
    live: int
    about: str


def page(desk: Desk) -> Response:
    """The list, with the tree of folders beside it."""
    return _page(desk)


def _page(desk: Desk, error: TreadleError | None = None, kept: Fields | None = None) -> Response:
    here = Address.of(desk.request)
    view = View(here.get("view")) if here.get("view") in View.__members__ else View.active
    folder = here.get("folder").strip("/") or None
    q = here.get("name").strip()[:200]
    clause, told = "", None
    if q:
        text = listings.literal(f"%{q}%")
        clause = f"name ILIKE {text}" if text else "name = ''"
    found: Experiments = desk.call(
        SearchExperiments(project=desk.project, filter=clause, view=view, folder=folder, limit=_PAGE, page=here.get("page") or None)
    )
    every: Experiments = desk.call(SearchExperiments(project=desk.project, view=view, limit=_FOLDERS))
    lines = [_line(desk, e, view) for e in found.items]
    return desk.page(
        "experiments.html",
        status=400 if error else 200,
        here=here,
        sentence=_sentence(desk, found, folder, q, view),
        lines=lines,
        folders=folders(every.items, here, folder or ""),
        total=f"{len(every.items):,}{'+' if every.page.next else ''}",
        folder=folder or "",
        name=q,
        view=view,
        older=here.to(page=found.page.next) if found.page.next else "",
        newest=here.to(page=None) if here.get("page") else "",
        notice=notice(here, desk.base),
        error=error or told,
        kept=kept or Fields([]),
        command=_COMMAND.format(url=str(desk.request.base_url).rstrip("/")),
    )


def _sentence(desk: Desk, found: Experiments, folder: str | None, q: str, view: View) -> str:
    n = len(found.items)
    where = f"the folder {folder}" if folder else desk.project
    if not n:
        if q:
            return f"No experiment of {where} is called something like “{q}”."
        return f"The bin of {where} is empty." if view == View.deleted else f"{where[0].upper()}{where[1:]} has no experiment yet."
    kind = " in the bin" if view == View.deleted else ""
    named = f" called something like “{q}”" if q else ""
    more = "; more follow" if found.page.next else ""
    return f"{n:,} experiment{'s' if n != 1 else ''}{kind} of {where}{named}, newest first{more}."


def _line(desk: Desk, experiment: Experiment, view: View) -> Line:
    found: TrackedRuns = desk.call(
        SearchRuns(
            project=desk.project,
            experiments=[experiment.experiment_id],
            view=View.all if view == View.deleted else View.active,
            limit=_COUNTED,
            columns=[],
        )
    )
    n = len(found.items)
    first = found.items[0] if found.items else None
    return Line(
        experiment=experiment,
        href=f"{desk.base}{words.path('experiments', experiment.experiment_id, 'runs')}",
        runs=f"{n:,}{'+' if found.page.next else ''}",
        newest=(first.started or first.created) if first else None,
        live=sum(str(r.state) in listings.LIVE for r in found.items),
        about=_MARKS.sub("", experiment.description.strip().partition("\n")[0]),
    )


def folders(every: list[Experiment], here: Address, current: str) -> list[Folder]:
    """The folders of some experiments as the lines of a tree, each with how many it has in and below it."""
    inside: Counter[str] = Counter()
    for e in every:
        parts = [p for p in e.folder.split("/") if p]
        for depth in range(1, len(parts) + 1):
            inside["/".join(parts[:depth])] += 1
    return [
        Folder(
            path=path,
            name=path.rpartition("/")[2],
            depth=path.count("/"),
            count=inside[path],
            href=here.to(folder=path, page=None),
            current=path == current,
        )
        for path in sorted(inside, key=lambda p: p.split("/"))
    ]


# ── what is done with them ───────────────────────────────────────────────────────────────────────────────────────────


def create(desk: Desk, fields: Fields) -> Response:
    """Make an experiment; an error keeps what was typed."""
    check_same_origin(desk.request)
    experiment_id = new_id("exp")
    made = CreateExperiment(
        project=desk.project,
        experiment_id=experiment_id,
        name=fields.get("name"),
        folder=fields.get("folder").strip("/"),
        description=fields.text("description"),
    )
    try:
        desk.call(made)
    except TreadleError as error:
        return _page(desk, error, fields)
    return RedirectResponse(f"{desk.base}{words.path('experiments', experiment_id, 'runs')}?said=created", 303)


def change(desk: Desk, fields: Fields) -> Response:
    """Rename, move, describe, tag, bin or restore one."""
    check_same_origin(desk.request)
    wanted, what = desk.request.path_params["experiment_id"], fields.get("act")
    said = {"bin": "experiment_binned", "restore": "experiment_restored"}.get(what, "saved")
    call: Any
    if what == "change":
        call = UpdateExperiment(
            project=desk.project,
            experiment_id=wanted,
            name=fields.get("name"),
            folder=fields.get("folder").strip("/"),
            description=fields.text("description"),
        )
    elif what == "tag":
        name, value = fields.get("tag"), fields.get("value")
        call = SetExperimentTags(
            project=desk.project, experiment_id=wanted, tags={name: value} if value else {}, remove=[] if value else [name]
        )
    elif what in ("bin", "restore"):
        call = BinExperiment(project=desk.project, experiment_id=wanted, lifecycle="deleted" if what == "bin" else "active")
    else:
        raise TreadleError("The form does not say what to do with the experiment.", remedy="Use one of its buttons.")
    desk.call(call)
    return RedirectResponse(f"{desk.base}{words.path('experiments', wanted, 'runs')}?said={said}", 303)
